//! One session run by several threads at once: the only unsafe code of this crate.
//!
//! `ort` lends a session to one run at a time, since some execution providers (those of GPUs) break otherwise; a session for each thread
//! would hold the weights as many times, 90 MB each for a small encoder. ONNX Runtime states that `Run` may be called concurrently, and
//! for the CPU provider, the only one that [`super::session`] registers and the only one in the builds we load, that is so: kernels
//! keep no state between runs, and allocations go through the C library. A test runs one session from many threads and compares bits.

use std::{ffi::CString, ptr, sync::Arc};

use ort::{
    AsPointer,
    session::{Session, SharedSessionInner},
    value::{DynValue, TensorRef, TensorRefMut, ValueRef},
};

use super::feed::{Feeds, Tensor};

/// A session with the names of what goes in and comes out, in the order of [`SharedSession::run`]'s arguments.
#[derive(Debug)]
pub(super) struct SharedSession {
    inner: Arc<SharedSessionInner>,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

impl SharedSession {
    pub(super) fn new(session: &Session, inputs: &[&str], outputs: &[&str]) -> Result<Self, String> {
        let names = |names: &[&str]| names.iter().map(|name| CString::new(*name)).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (names(inputs), names(outputs));
        let nul = |_| "a name with a zero byte".to_owned();
        Ok(Self { inner: session.inner(), inputs: inputs.map_err(nul)?, outputs: outputs.map_err(nul)? })
    }

    /// Runs the graph; each output must have the shape given, and is written in place.
    pub(super) fn run(&self, feeds: &Feeds, outputs: &mut [Vec<f32>], shape: [usize; 2]) -> Result<(), String> {
        let words = |error: ort::Error| error.message().to_owned();
        let inputs: Vec<ValueRef<'_>> = feeds.tensors.iter().map(view).collect::<ort::Result<_>>().map_err(words)?;
        let mut views = Vec::with_capacity(outputs.len());
        for output in outputs.iter_mut() {
            views.push(TensorRefMut::from_array_view_mut((shape, output.as_mut_slice())).map_err(words)?);
        }
        if (inputs.len(), views.len()) != (self.inputs.len(), self.outputs.len()) {
            return Err("as many tensors are needed as there are names".into());
        }
        let names = |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect::<Vec<_>>();
        let (input_names, output_names) = (names(&self.inputs), names(&self.outputs));
        let inputs: Vec<*const ort::sys::OrtValue> = inputs.iter().map(|value| DynValue::ptr(value)).collect();
        let mut targets: Vec<*mut ort::sys::OrtValue> = views.iter().map(|value| value.ptr().cast_mut()).collect();
        #[expect(unsafe_code, reason = "see the head of this file")]
        // SAFETY: the session lives as long as `self`. Names are zero-terminated and live as long as `self`; values, and the memory they
        // lend, live to the end of this function; names and values are as many as the counts say, which was checked. Outputs are
        // preallocated values of the memory they name, so ONNX Runtime checks their shape before writing and makes no new ones. `Run`
        // with the CPU provider may be called from several threads at once (see above). The status is owned by us and given to `ort`.
        let result = unsafe {
            ort::Error::result_from_status((ort::api().Run)(
                self.inner.ptr().cast_mut(),
                ptr::null(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                output_names.len(),
                targets.as_mut_ptr(),
            ))
        };
        result.map_err(words)
    }
}

fn view(tensor: &Tensor) -> ort::Result<ValueRef<'_>> {
    Ok(match tensor {
        Tensor::Whole(shape, values) => TensorRef::from_array_view((*shape, values.as_slice()))?.into_dyn(),
        Tensor::Real(shape, values) => TensorRef::from_array_view((*shape, values.as_slice()))?.into_dyn(),
    })
}
