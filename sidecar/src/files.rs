//! How many files, and with them connections, this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes all that the system allows: each request under way has two connections, and shells give a program 1024 where it might have many
/// more.
pub fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, what there was remains.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
