//! tract: an optimized plan of the float32 ONNX file.

use anyhow::{Result, ensure};
use measure::{Engine, Job, Rows};
use tract_onnx::prelude::*;

struct Tract {
    plan: Arc<TypedRunnableModel>,
    shape: Vec<usize>,
}

impl Engine for Tract {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        let output = self.plan.run(tvec!(Tensor::from_shape(&self.shape, rows)?.into()))?;
        let values = output[0].to_plain_array_view::<f32>()?;
        ensure!(values.len() == answers.len(), "tract answers with {} values", values.len());
        for (answer, &value) in answers.iter_mut().zip(values.iter()) {
            *answer = value;
        }
        Ok(())
    }
}

fn open(job: &Job, rows: &Rows) -> Result<Tract> {
    let plan = tract_onnx::onnx().model_for_path(&job.model)?.into_optimized()?.into_runnable()?;
    Ok(Tract { plan, shape: rows.shape_of(1) })
}

fn main() -> Result<()> {
    measure::run(open)
}
