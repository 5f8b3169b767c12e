//! Pictures: how large they are, and a small one of each.
//!
//! *Invariant*: the size that a picture claims is known and within bounds before anything of it is decoded; a small
//! picture is drawn anew, so nothing that the large one tells beside its pixels (place, camera, comments) is in it.

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

/// The sides of a small picture, in pixels.
pub const THUMBNAIL_PIXELS: u32 = 320;
/// A picture that claims more pixels than this is none: it is made to fill the memory of those who open it.
const CLAIM_MAX: u64 = 1 << 28;
/// Pictures of more pixels have no small one.
const DECODE_MAX: u64 = 40_000_000;
/// Memory for decoding one.
const DECODE_OCTETS: u64 = 192 * 1024 * 1024;
/// Some decoders read the whole file first.
const FILE_OCTETS: u64 = 64 * 1024 * 1024;
const QUALITY: u8 = 80;

/// What a picture says of itself, and what it looks like small.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    /// As it is to be shown.
    pub(super) size: Option<(u32, u32)>,
    pub(super) small: Option<Small>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Small {
    pub(super) content_type: &'static str,
    pub(super) octets: Vec<u8>,
}

/// It claims to be larger than any picture is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bomb;

/// Looks at a file that begins like a picture. One that cannot be decoded is a file like any other.
pub(super) fn look(path: &Path, content_type: &str, octets: u64) -> Result<Picture, Bomb> {
    let format = match content_type {
        "image/png" => ImageFormat::Png,
        "image/jpeg" => ImageFormat::Jpeg,
        "image/gif" => ImageFormat::Gif,
        "image/webp" => ImageFormat::WebP,
        _ => return Ok(Picture::default()),
    };
    if octets > FILE_OCTETS {
        return Ok(Picture::default());
    }
    let Ok(file) = File::open(path) else {
        return Ok(Picture::default());
    };
    // A decoder that panics is a decoder that could not.
    let looked = std::panic::catch_unwind(|| look_at(file, format));
    looked.unwrap_or_else(|_| Ok(Picture::default()))
}

fn look_at(file: File, format: ImageFormat) -> Result<Picture, Bomb> {
    let mut reader = ImageReader::with_format(BufReader::new(file), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODE_OCTETS);
    reader.limits(limits);
    let Ok(mut decoder) = reader.into_decoder() else {
        return Ok(Picture::default());
    };
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > CLAIM_MAX {
        return Err(Bomb);
    }
    let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let size = match on_its_side(turned) {
        true => (height, width),
        false => (width, height),
    };
    let small = match pixels <= DECODE_MAX {
        true => DynamicImage::from_decoder(decoder)
            .ok()
            .and_then(|image| shrink(&image, turned)),
        false => None,
    };
    Ok(Picture {
        size: Some(size),
        small,
    })
}

fn on_its_side(turned: Orientation) -> bool {
    matches!(
        turned,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

fn shrink(image: &DynamicImage, turned: Orientation) -> Option<Small> {
    let side = THUMBNAIL_PIXELS;
    let mut small = match image.width() > side || image.height() > side {
        true => image.thumbnail(side, side),
        false => image.clone(),
    };
    small.apply_orientation(turned);
    let mut octets = Cursor::new(Vec::new());
    let content_type = match small.color().has_alpha() {
        true => {
            let drawn = DynamicImage::ImageRgba8(small.to_rgba8());
            drawn.write_to(&mut octets, ImageFormat::Png).ok()?;
            "image/png"
        }
        false => {
            let drawn = small.to_rgb8();
            let encoder = JpegEncoder::new_with_quality(&mut octets, QUALITY);
            drawn.write_with_encoder(encoder).ok()?;
            "image/jpeg"
        }
    };
    Some(Small {
        content_type,
        octets: octets.into_inner(),
    })
}
