//! The bundled images give their golden bits on every backend, however this test was built: `./ci.sh bits` runs it
//! optimized, and with FMA switched on for the whole program.

use qsc_kernel::{Backend, Model, Scratch};

#[test]
fn golden_bits_hold_on_every_backend() {
    for (name, image) in qsc_models::IMAGES {
        let model = Model::check(image).expect("a bundled image is valid");
        let mut scratch = vec![0; model.scratch_bytes() + qsc_kernel::scratch::ALIGNMENT];
        for backend in Backend::available() {
            let model = model.clone().with_backend(backend);
            assert_ne!(model.golden_rows(), 0, "{name}");
            assert_eq!(
                model.check_golden(Scratch::new(&mut scratch)),
                Ok(()),
                "{name} on {}",
                backend.name()
            );
        }
    }
}
