//! `make e2e`: the whole loop on a real cluster, under load and under faults.
//!
//! The program brings up a cluster of two nodes in namespaces of its own ([`nodes`]), or takes the one of `KUBECONFIG` ([`existing`]);
//! puts the images into it ([`images`]), installs the chart ([`install`]) and goes the whole way from two manifests to requests that a
//! router trained in the cluster decides ([`whole_loop`]). What then stands is put under load and broken in turn. `docs/e2e.md` says what
//! it needs and what its exit codes mean.

mod clients;
mod cluster;
mod collect;
mod existing;
mod expert;
mod faults;
mod images;
mod install;
mod live;
mod load;
mod logs;
mod metering;
mod nodes;
mod objects;
mod options;
mod privilege;
mod progress;
mod report;
mod soak;
mod stage;
mod supervise;
mod trained;
mod trials;
mod whole_loop;
mod work;

use std::process::ExitCode;

use clap::Parser;

use options::{Arguments, Task};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.task {
        None => supervise::run(&arguments.options),
        Some(Task::Work(options)) => work::run(&options),
        Some(Task::First(command)) => nodes::first(&command),
        Some(Task::Load(options)) => load::run(&options),
        Some(Task::Expert(options)) => expert::run(&options),
    }
}
