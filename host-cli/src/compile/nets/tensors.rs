//! A safetensors file: every tensor is asked for by name and shape, and none may be left over.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors};

use super::ir::Affine;

/// A counter of BatchNorm that means nothing after training.
const IGNORED: &str = "num_batches_tracked";

/// The tensors of a file, and which of them were used.
pub(super) struct Tensors<'a> {
    file: SafeTensors<'a>,
    metadata: std::collections::HashMap<String, String>,
    unused: RefCell<BTreeSet<String>>,
}

impl<'a> Tensors<'a> {
    /// Reads the header; tensors are looked at when they are asked for.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let wrong = "the file is no sound safetensors file; save the model again with safetensors";
        let (_, metadata) = SafeTensors::read_metadata(bytes).context(wrong)?;
        let file = SafeTensors::deserialize(bytes).context(wrong)?;
        let unused = file.names().into_iter().filter(|name| !name.ends_with(IGNORED));
        let unused = RefCell::new(unused.map(str::to_owned).collect());
        Ok(Self { unused, file, metadata: metadata.metadata().clone().unwrap_or_default() })
    }

    /// A text of the header's metadata.
    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The values of a tensor that must have this shape.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Ok(tensor) = self.file.tensor(name) else {
            bail!("the file lacks the tensor {name} {shape:?}; check it against the config");
        };
        self.unused.borrow_mut().remove(name);
        ensure!(
            tensor.dtype() == Dtype::F32,
            "tensor {name} is {:?}; only F32 is supported: convert the model with .float() and save it again",
            tensor.dtype()
        );
        ensure!(
            tensor.shape() == shape,
            "tensor {name} has shape {:?} where the config means {shape:?}",
            tensor.shape()
        );
        let (words, _) = tensor.data().as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        ensure!(
            values.iter().all(|value| value.is_finite()),
            "tensor {name} has a value that is not finite; the training diverged"
        );
        Ok(values)
    }

    /// The values in f64.
    pub(super) fn wide(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        Ok(self.values(name, shape)?.into_iter().map(f64::from).collect())
    }

    /// The linear layer `name.weight [out, width]`, `name.bias [out]`.
    pub(super) fn linear(&self, name: &str, out: usize, width: usize) -> Result<Affine> {
        self.affine(&format!("{name}.weight"), &format!("{name}.bias"), out, width)
    }

    /// A linear layer whose tensors have these names.
    pub(super) fn affine(&self, weight: &str, bias: &str, out: usize, width: usize) -> Result<Affine> {
        Ok(Affine { width, weights: self.wide(weight, &[out, width])?, bias: self.wide(bias, &[out])? })
    }

    /// Gain and bias of the layer norm `name`.
    pub(super) fn norm(&self, name: &str, width: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((
            self.values(&format!("{name}.weight"), &[width])?,
            self.values(&format!("{name}.bias"), &[width])?,
        ))
    }

    /// Refuses tensors nothing was made of: the model is not what the config says.
    pub(super) fn all_used(&self) -> Result<()> {
        let unused = self.unused.borrow();
        let Some(first) = unused.first() else { return Ok(()) };
        bail!("the file has {} tensor(s) the config does not explain, the first is {first}", unused.len())
    }
}
