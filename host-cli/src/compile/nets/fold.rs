//! Exact rewrites before quantization: fewer layers, fewer weights, fewer places to lose accuracy.

use super::ir::Affine;

/// A batch normalization with fixed statistics: y = x · scale + shift per column.
pub(super) struct BatchNorm {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Affine {
    /// This map after a batch normalization.
    pub(super) fn after_batch_norm(&self, norm: &BatchNorm) -> Self {
        let mut folded = self.clone();
        for (row, bias) in folded.weights.chunks_exact_mut(self.width).zip(&mut folded.bias) {
            *bias += row.iter().zip(&norm.shift).map(|(w, shift)| w * shift).sum::<f64>();
            for (w, scale) in row.iter_mut().zip(&norm.scale) {
                *w *= scale;
            }
        }
        folded
    }

    /// This map after `inner`: one matrix for two neighbouring layers.
    pub(super) fn after(&self, inner: &Self) -> Self {
        let mut weights = Vec::with_capacity(self.out() * inner.width);
        for row in self.rows() {
            let mut product = vec![0.0; inner.width];
            for (w, inner) in row.iter().zip(inner.rows()) {
                for (p, v) in product.iter_mut().zip(inner) {
                    *p += w * v;
                }
            }
            weights.extend(product);
        }
        let bias = self
            .rows()
            .zip(&self.bias)
            .map(|(row, bias)| bias + row.iter().zip(&inner.bias).map(|(w, b)| w * b).sum::<f64>())
            .collect();
        Self { width: inner.width, weights, bias }
    }

    /// True if one matrix in place of this map after `inner` has no more weights than the two.
    pub(super) const fn folds_well(&self, inner: &Self) -> bool {
        self.out() * inner.width <= self.weights.len() + inner.weights.len()
    }

    /// Every output times `factor`.
    pub(super) fn times(mut self, factor: f64) -> Self {
        self.weights.iter_mut().chain(&mut self.bias).for_each(|value| *value *= factor);
        self
    }

    /// The outputs of both maps of the same inputs, one after the other.
    pub(super) fn stacked(mut self, other: Self) -> Self {
        self.weights.extend(other.weights);
        self.bias.extend(other.bias);
        self
    }

    /// The outputs from `first` with `count` of them.
    pub(super) fn outputs(&self, first: usize, count: usize) -> Self {
        Self {
            width: self.width,
            weights: self.weights[first * self.width..][..count * self.width].to_vec(),
            bias: self.bias[first..][..count].to_vec(),
        }
    }
}

/// PyTorch's average pooling without overlap, in ceil mode: the last mean is over the values it has.
pub(super) fn average_pool(width: usize, kernel: usize) -> Affine {
    let out = width.div_ceil(kernel);
    let mut weights = vec![0.0; out * width];
    for at in 0..width {
        let window = at / kernel;
        let count = kernel.min(width - window * kernel);
        weights[window * width + at] = 1.0 / count as f64;
    }
    Affine { width, weights, bias: vec![0.0; out] }
}

/// How knots become a forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interpolation {
    /// PyTorch's `linear` with `align_corners=False`.
    Linear,
    /// PyTorch's `nearest`.
    Nearest,
}

/// PyTorch's `interpolate` of `knots` values to `size`. Source places are computed in f32, as PyTorch does.
pub(super) fn interpolate(kind: Interpolation, knots: usize, size: usize) -> Affine {
    let mut weights = vec![0.0; size * knots];
    let scale = knots as f32 / size as f32;
    for (at, row) in weights.chunks_exact_mut(knots).enumerate() {
        match kind {
            Interpolation::Nearest => row[((at as f32 * scale) as usize).min(knots - 1)] = 1.0,
            Interpolation::Linear => {
                let place = ((at as f32 + 0.5) * scale - 0.5).max(0.0);
                let low = (place as usize).min(knots - 1);
                let share = f64::from(place - low as f32);
                row[low] += 1.0 - share;
                row[(low + 1).min(knots - 1)] += share;
            }
        }
    }
    Affine { width: knots, weights, bias: vec![0.0; size] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(map: &Affine, x: &[f64]) -> Vec<f64> {
        map.rows()
            .zip(&map.bias)
            .map(|(row, b)| b + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
            .collect()
    }

    #[test]
    fn interpolations_are_those_of_pytorch() {
        // torch.nn.functional.interpolate(torch.tensor([[[1., 3., 2.]]]), size=6, mode=…)
        let knots = [1.0, 3.0, 2.0];
        let linear = apply(&interpolate(Interpolation::Linear, 3, 6), &knots);
        assert_eq!(linear, [1.0, 1.5, 2.5, 2.75, 2.25, 2.0]);
        let nearest = apply(&interpolate(Interpolation::Nearest, 3, 6), &knots);
        assert_eq!(nearest, [1.0, 1.0, 3.0, 3.0, 2.0, 2.0]);
        assert_eq!(apply(&interpolate(Interpolation::Linear, 1, 3), &[4.0]), [4.0; 3]);
    }

    #[test]
    fn the_last_average_is_over_what_is_left() {
        assert_eq!(apply(&average_pool(5, 2), &[1.0, 3.0, 5.0, 7.0, 9.0]), [2.0, 6.0, 9.0]);
    }

    #[test]
    fn folding_changes_no_output() {
        let values = |n: usize, seed: f64| (0..n).map(|i| (i as f64 * seed).sin()).collect::<Vec<_>>();
        let inner = Affine { width: 3, weights: values(12, 0.7), bias: values(4, 1.3) };
        let outer = Affine { width: 4, weights: values(8, 2.1), bias: values(2, 0.2) };
        let x = [0.3, -1.0, 2.0];
        let norm = BatchNorm { scale: values(4, 0.9), shift: values(4, 0.4) };
        let hidden = apply(&inner, &x);
        let normed: Vec<f64> =
            hidden.iter().zip(norm.scale.iter().zip(&norm.shift)).map(|(h, (a, b))| h * a + b).collect();
        for (folded, expected) in [
            (outer.after(&inner), apply(&outer, &hidden)),
            (outer.after_batch_norm(&norm).after(&inner), apply(&outer, &normed)),
        ] {
            let got = apply(&folded, &x);
            assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12));
        }
    }
}
