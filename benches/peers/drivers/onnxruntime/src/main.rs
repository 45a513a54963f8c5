//! ONNX Runtime on one thread with all graph optimizations, for trees and networks.

use anyhow::{Context, Result, anyhow, ensure};
use measure::{Engine, Job, Rows};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session};
use ort::value::TensorRef;

struct OnnxRuntime {
    session: Session,
    row: Vec<usize>,
    row_len: usize,
    outputs: usize,
    /// Only the last output: a tree model's probabilities (its labels come first), the only one of a network.
    options: RunOptions<HasSelectedOutputs>,
    output: String,
}

impl Engine for OnnxRuntime {
    fn predict(&mut self, rows: &[f32], answers: &mut [f32]) -> Result<()> {
        let count = rows.len() / self.row_len;
        self.row[0] = count;
        let input = TensorRef::from_array_view((self.row.as_slice(), rows))?;
        let outputs = self.session.run_with_options(ort::inputs![input], &self.options)?;
        let (_, values) = outputs[self.output.as_str()].try_extract_tensor::<f32>()?;
        // A binary model has a column for either class: the last one is that of class 1.
        let columns = values.len() / count;
        ensure!(columns >= self.outputs, "{columns} columns came back");
        for (answer, values) in answers.chunks_exact_mut(self.outputs).zip(values.chunks_exact(columns)) {
            answer.copy_from_slice(&values[columns - self.outputs..]);
        }
        Ok(())
    }
}

fn open(job: &Job, rows: &Rows) -> Result<OnnxRuntime> {
    let library = job.library.as_deref().context("ONNX Runtime needs its library")?;
    let environment = ort::init_from(library)?.build()?;
    let session = Session::builder(&environment)?
        .with_optimization_level(GraphOptimizationLevel::All)
        .and_then(|builder| builder.with_intra_threads(1))
        .and_then(|builder| builder.with_inter_threads(1))
        .map_err(|error| anyhow!("{error}"))?
        .commit_from_file(&job.model)?;
    let output = session.outputs().last().context("the model has no output")?.name().to_owned();
    let options = RunOptions::new()?.with_outputs(OutputSelector::no_default().with(&output));
    let (row, row_len, outputs) = (rows.shape_of(1), rows.row_len(), job.outputs);
    Ok(OnnxRuntime { session, row, row_len, outputs, options, output })
}

fn main() -> Result<()> {
    measure::run(open)
}
