//! Many rows at once: a back-test predicts in blocks of 256, with the bits single rows give.
//!
//! `cargo run --release --example backtest`

use std::time::Instant;

use qsc_kernel::ensemble::ConfidenceRule;
use qsc_kernel::{Model, Output, Scratch};

const ROWS: usize = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::check(qsc_models::XGB)?;
    let (row_len, n_raw, n_outputs) = (model.row_len(), model.n_raw(), model.n_outputs());
    // A history of the market; here the image's own rows, each a little moved.
    let golden = model.golden_inputs().chunks_exact(row_len).cycle().take(ROWS);
    let rows: Vec<f32> = golden
        .zip(0_u16..)
        .flat_map(|(row, at)| row.iter().map(move |value| value * (1.0 + f32::from(at) / 65_536.0)))
        .collect();

    let mut raw = vec![0.0; ROWS * n_raw];
    let mut values = vec![0.0; ROWS * n_outputs];
    let mut memory = vec![0; model.batch_scratch_bytes().max(model.scratch_bytes()) + 64];
    let start = Instant::now();
    model.predict_batch(&rows, &mut raw, &mut values, Scratch::new(&mut memory))?;
    let elapsed = start.elapsed();

    let mut counts = [0_usize; 3];
    let outputs = raw.chunks_exact(n_raw).zip(values.chunks_exact(n_outputs));
    for (row, (raw, values)) in rows.chunks_exact(row_len).zip(outputs) {
        let prediction = model.decide(row, &Output { raw, values }, ConfidenceRule::Max);
        let prediction = prediction.map_err(|reason| reason.wire_name())?;
        counts[usize::from(prediction.action().code())] += 1;
        assert_eq!(model.predict(row, Scratch::new(&mut memory))?, Output { raw, values });
    }
    let [buy, sell, hold] = counts;
    println!("{ROWS} rows in {elapsed:?}: {buy} BUY, {sell} SELL, {hold} HOLD");
    Ok(())
}

#[cfg(test)]
#[test]
fn runs() {
    main().unwrap();
}
