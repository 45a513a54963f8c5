//! Pages as a real browser draws them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A picture, RGB.
#[derive(Debug)]
pub struct Picture {
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// How many pixels have this colour, and in how many different rows and columns.
    #[must_use]
    pub fn count(&self, colour: [u8; 3]) -> (usize, usize, usize) {
        let (mut rows, mut columns) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut count = 0;
        for (at, pixel) in self.pixels.chunks_exact(3).enumerate() {
            if pixel == colour {
                count += 1;
                rows.insert(at / self.width);
                columns.insert(at % self.width);
            }
        }
        (count, rows.len(), columns.len())
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }
}

/// Draws a page in a window of this size; `None`, said loudly, where there is no Chromium.
///
/// # Panics
/// If Chromium is installed but draws nothing, or `QSC_REQUIRE_ALL=1` and it is not installed.
#[must_use]
pub fn draw(page: &Path, width: usize, height: usize) -> Option<Picture> {
    let profile = TempDir::new().expect("a scratch directory");
    let target = profile.path().join("page.png");
    let status = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", target.display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let Ok(status) = status else {
        crate::skip("chromium is not installed");
        return None;
    };
    assert!(status.success(), "chromium ends well");
    let file = BufReader::new(File::open(&target).expect("chromium draws a picture"));
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().expect("the picture is a PNG");
    let mut buffer = vec![0; reader.output_buffer_size().expect("the picture fits into memory")];
    let info = reader.next_frame(&mut buffer).expect("the picture is whole");
    let samples = info.color_type.samples();
    assert!(samples >= 3, "a picture in colours");
    let pixels = buffer[..info.buffer_size()].chunks_exact(samples).flat_map(|pixel| pixel[..3].to_vec());
    Some(Picture { width: info.width as usize, pixels: pixels.collect() })
}
