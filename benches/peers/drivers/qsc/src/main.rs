//! QSC: an image compiled from the file the peers are made of, f32 row in, outputs out.

use anyhow::{Context, Result, anyhow, bail, ensure};
use measure::{Engine, Job, Rows};
use qsc_kernel::scratch::ALIGNMENT;
use qsc_kernel::{Backend, Model, Scratch};

struct Qsc {
    model: Model<'static>,
    memory: Vec<u8>,
    /// Margins of a batch.
    raw: Vec<f64>,
}

impl Engine for Qsc {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        let scratch = Scratch::new(&mut self.memory);
        if rows.len() == self.model.row_len() {
            let output = self.model.predict(rows, scratch).map_err(|error| anyhow!("{error}"))?;
            answers.copy_from_slice(output.values);
            Ok(())
        } else {
            self.model
                .predict_batch(rows, &mut self.raw, answers, scratch)
                .map_err(|error| anyhow!("{error}"))
        }
    }
}

fn open(job: &Job, rows: &Rows) -> Result<Qsc> {
    let image = std::fs::read(&job.model).with_context(|| format!("cannot read {}", job.model.display()))?;
    // The one image of this process, at an aligned address for good.
    let memory = vec![0; image.len() + ALIGNMENT].leak();
    let skip = memory.as_ptr().align_offset(ALIGNMENT);
    let bytes = &mut memory[skip..skip + image.len()];
    bytes.copy_from_slice(&image);
    let name = job.setting.as_deref().context("QSC needs a backend as its setting")?;
    let Some(backend) = Backend::available().find(|backend| backend.name() == name) else {
        bail!("this machine has no {name}");
    };
    let model = Model::check(bytes)
        .map_err(|error| anyhow!("{}: {error}", job.model.display()))?
        .with_backend(backend);
    ensure!(
        model.row_len() == rows.row_len(),
        "rows have {} values, the model takes {}",
        rows.row_len(),
        model.row_len()
    );
    ensure!(
        model.n_outputs() == job.outputs,
        "the model has {} outputs, not {}",
        model.n_outputs(),
        job.outputs
    );
    let bytes = if job.batch { model.batch_scratch_bytes() } else { model.scratch_bytes() };
    let raw = if job.batch { vec![0.0; model.n_raw() * rows.count()] } else { vec![] };
    Ok(Qsc { model, memory: vec![0; bytes + ALIGNMENT], raw })
}

fn main() -> Result<()> {
    measure::run(open)
}
