//! Engines with a C interface. Each is loaded from the shared library its own package ships, or from the code it
//! compiled the model to.

mod lightgbm;
mod lleaves;
mod openvino;
mod plugin;
mod tl2cgen;
mod xgboost;

use std::ffi::CString;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libloading::Library;
use measure::{Engine, Job, Rows};

/// A loaded library; never unloaded, so that its functions may be copied out.
struct Api(&'static Library);

impl Api {
    fn load(job: &Job) -> Result<Self> {
        let path = job.library.as_deref().context("this engine needs a library")?;
        // SAFETY: the library is one that the engine's own package ships or that its compiler wrote; its
        // initializers are meant to run in any process.
        let library =
            unsafe { Library::new(path) }.with_context(|| format!("cannot load {}", path.display()))?;
        Ok(Self(Box::leak(Box::new(library))))
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is a function pointer of the type that the library's header gives `name`.
    unsafe fn get<F: Copy>(&self, name: &str) -> Result<F> {
        // SAFETY: the caller vouches for the type.
        let symbol = unsafe { self.0.get::<F>(name) };
        Ok(*symbol.with_context(|| format!("the library has no {name}"))?)
    }
}

/// An error code of a C function as an error.
fn ok(code: i32, what: &str) -> Result<()> {
    if code != 0 {
        bail!("{what} failed with code {code}");
    }
    Ok(())
}

fn c_path(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
}

/// Any of them: which one is known when the job is read.
struct Native(Box<dyn Engine>);

impl Engine for Native {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        self.0.predict(rows, answers)
    }
}

fn open(job: &Job, rows: &Rows) -> Result<Native> {
    let api = Api::load(job)?;
    let engine: Box<dyn Engine> = match job.engine.as_str() {
        "lightgbm" => Box::new(lightgbm::open(&api, job, rows)?),
        "xgboost" => Box::new(xgboost::open(&api, job, rows)?),
        "lleaves" => Box::new(lleaves::open(&api, rows)?),
        "tl2cgen" => tl2cgen::open(&api, job, rows)?,
        "openvino" => Box::new(openvino::open(&api, job, rows)?),
        "plugin" => Box::new(plugin::open(&api, job, rows)?),
        other => bail!("there is no engine {other}"),
    };
    Ok(Native(engine))
}

fn main() -> Result<()> {
    measure::run(open)
}
