//! OpenVINO's C API: the row is copied into the request's own tensor, inferred, and the answer copied out.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::null_mut;

use anyhow::{Context, Result, ensure};
use measure::{Engine, Job, Rows};

use crate::{Api, c_path, ok};

/// Most functions: an object in, an object out.
type Make = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> c_int;

type Infer = unsafe extern "C" fn(*mut c_void) -> c_int;

pub(crate) struct OpenVino {
    request: *mut c_void,
    infer: Infer,
    input: *mut f32,
    output: *const f32,
    row_len: usize,
    outputs: usize,
}

pub(crate) fn open(api: &Api, job: &Job, rows: &Rows) -> Result<OpenVino> {
    type Create = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
    type Compile = unsafe extern "C" fn(
        *mut c_void,
        *const c_char,
        *const c_char,
        usize,
        *mut *mut c_void,
        ...
    ) -> c_int;
    // SAFETY: the type is that of ov_core.h.
    let create = unsafe { api.get::<Create>("ov_core_create") }?;
    // SAFETY: the type is that of ov_core.h.
    let compile = unsafe { api.get::<Compile>("ov_core_compile_model_from_file") }?;
    // SAFETY: the type is that of ov_infer_request.h.
    let infer = unsafe { api.get::<Infer>("ov_infer_request_infer") }?;

    let precision =
        CString::new(job.setting.as_deref().context("OpenVINO needs a precision as its setting")?)?;
    let path = c_path(&job.model)?;
    let (mut core, mut model) = (null_mut(), null_mut());
    // SAFETY: the core is an out-parameter.
    ok(unsafe { create(&raw mut core) }, "creating a core")?;
    // SAFETY: all strings end with a zero; eight of them follow, as announced.
    let code = unsafe {
        compile(
            core,
            path.as_ptr(),
            c"CPU".as_ptr(),
            8,
            &raw mut model,
            c"PERFORMANCE_HINT".as_ptr(),
            c"LATENCY".as_ptr(),
            c"INFERENCE_NUM_THREADS".as_ptr(),
            c"1".as_ptr(),
            c"NUM_STREAMS".as_ptr(),
            c"1".as_ptr(),
            c"INFERENCE_PRECISION_HINT".as_ptr(),
            precision.as_ptr(),
        )
    };
    ok(code, "compiling the model")?;
    let request = make(api, "ov_compiled_model_create_infer_request", model)?;
    let input = tensor(api, "ov_infer_request_get_input_tensor", request, rows.row_len())?;
    // SAFETY: a request of this library.
    ok(unsafe { infer(request) }, "inferring")?;
    let output = tensor(api, "ov_infer_request_get_output_tensor", request, job.outputs)?;
    Ok(OpenVino { request, infer, input, output, row_len: rows.row_len(), outputs: job.outputs })
}

fn make(api: &Api, name: &str, from: *mut c_void) -> Result<*mut c_void> {
    // SAFETY: all functions asked for by this name have this type.
    let make = unsafe { api.get::<Make>(name) }?;
    let mut made = null_mut();
    // SAFETY: `from` was made by this library and is what the function takes.
    ok(unsafe { make(from, &raw mut made) }, name)?;
    Ok(made)
}

/// Memory of a tensor of `length` f32; it stays where it is as long as the request does.
fn tensor(api: &Api, name: &str, request: *mut c_void, length: usize) -> Result<*mut f32> {
    let tensor = make(api, name, request)?;
    // SAFETY: the type is that of ov_tensor.h.
    let size = unsafe {
        api.get::<unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int>("ov_tensor_get_byte_size")
    }?;
    let mut bytes = 0;
    // SAFETY: the tensor was just made.
    ok(unsafe { size(tensor, &raw mut bytes) }, "asking for a tensor's size")?;
    ensure!(bytes == 4 * length, "{name} holds {bytes} bytes, not {length} f32");
    Ok(make(api, "ov_tensor_data", tensor)?.cast())
}

impl Engine for OpenVino {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        ensure!(
            rows.len() == self.row_len && answers.len() == self.outputs,
            "OpenVINO was compiled for one row"
        );
        // SAFETY: the input tensor holds `row_len` values.
        unsafe { self.input.copy_from_nonoverlapping(rows.as_ptr(), self.row_len) };
        // SAFETY: the request was made by this library.
        ok(unsafe { (self.infer)(self.request) }, "inferring")?;
        // SAFETY: the output tensor holds `outputs` values.
        unsafe { self.output.copy_to_nonoverlapping(answers.as_mut_ptr(), self.outputs) };
        Ok(())
    }
}
