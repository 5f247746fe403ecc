//! A meter that settles a moment after its body is dropped.
//!
//! The last piece of an answer is in the connection's buffer when its body is dropped, and on its way only afterwards: counting and
//! logging would hold it up by as much as the rest of the proxy takes. So they are a task of their own, which runs next. A runtime that
//! ends before drops the task, and thereby meters all the same.

use super::Meter;

/// Goes along with a body.
#[derive(Debug)]
pub struct Later(Option<Box<Meter>>);

impl Later {
    /// Takes the meter to the end of the body.
    #[must_use]
    pub fn new(meter: Box<Meter>) -> Self {
        Self(Some(meter))
    }

    /// The meter, for notes.
    pub fn note(&mut self, note: impl FnOnce(&mut Meter)) {
        if let Some(meter) = &mut self.0 {
            note(meter);
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if let (Some(meter), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn(async move { drop(meter) }));
        }
    }
}
