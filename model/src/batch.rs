//! Which waiting requests run together: a pure rule, apart from the threads that use it.
