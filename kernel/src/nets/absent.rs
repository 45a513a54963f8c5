//! What stands in for networks in a build without the feature `nets`: there are none, and their images are refused.

use core::convert::Infallible;
use core::marker::PhantomData;

use crate::error::{ImageError, PredictError};
use crate::image::Sections;
use crate::image::records::{ModelRecord, kind};
use crate::link::{Link, Output};
use crate::observe::Observer;
use crate::scratch::Scratch;
use crate::simd::Backend;

/// A network, of which this build has none: no value of this type exists.
#[derive(Clone, Debug)]
pub struct Net<'image> {
    none: Infallible,
    image: PhantomData<&'image [u8]>,
}

impl<'image> Net<'image> {
    pub(crate) const fn check(_: &Sections<'image>, _: &ModelRecord) -> Result<Self, ImageError> {
        Err(ImageError::Kind(kind::NET))
    }

    pub(crate) const fn link(&self) -> Link {
        match self.none {}
    }

    pub(crate) const fn predict<'s>(
        &self,
        _: &[f32],
        _: Scratch<'s>,
        _: Backend,
        _: &mut dyn Observer,
    ) -> Result<Output<'s>, PredictError> {
        match self.none {}
    }
}
