//! MicroFlow: the network as code that its macro writes.

use microflow::buffer::Buffer2D;

use crate::job::{FEATURES, Net, OUTPUTS};

pub struct Engine;

impl Engine {
    pub fn start() -> Self {
        Self
    }

    pub fn predict(&mut self, row: &[f32; FEATURES], out: &mut [f32; OUTPUTS]) {
        let answer = Net::predict(Buffer2D::from_row_slice(row));
        // The network forecasts differences from the last value.
        for (value, answer) in out.iter_mut().zip(answer.iter()) {
            *value = row[FEATURES - 1] + *answer;
        }
    }
}
