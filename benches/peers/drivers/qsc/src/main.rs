//! QSC: an image compiled from the file the peers are made of, f32 row in, outputs out.

use anyhow::{Context, Result, anyhow, bail, ensure};
use measure::{Engine, Job, Rows};
use qsc_kernel::scratch::ALIGNMENT;
use qsc_kernel::{Backend, Model, Scratch};

struct Qsc {
    model: Model<'static>,
    memory: Vec<u8>,
    row_len: usize,
    outputs: usize,
}

impl Engine for Qsc {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        for (row, answer) in rows.chunks_exact(self.row_len).zip(answers.chunks_exact_mut(self.outputs)) {
            let output = self
                .model
                .predict(row, Scratch::new(&mut self.memory))
                .map_err(|error| anyhow!("{error}"))?;
            answer.copy_from_slice(output.values);
        }
        Ok(())
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
    let memory = vec![0; model.scratch_bytes() + ALIGNMENT];
    Ok(Qsc { memory, row_len: model.row_len(), outputs: model.n_outputs(), model })
}

fn main() -> Result<()> {
    measure::run(open)
}
