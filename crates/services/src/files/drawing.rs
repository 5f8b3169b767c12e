//! Avatars, drawn: somebody's picture or coloured initials, and a mosaic of up to four.
//!
//! *Invariant*: the same faces give the same picture, octet by octet, of one size.

use image::imageops::{self, FilterType};
use image::{ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use std::io::Cursor;

/// The sides of an avatar, in pixels.
pub(super) const SIDE: u32 = 256;
/// The most faces in one.
pub(super) const FACES: usize = 4;

const INK: Rgb<u8> = Rgb([255, 255, 255]);
/// Dark enough for white letters, and told apart from each other.
const COLOURS: [[u8; 3]; 12] = [
    [0xb0, 0x3a, 0x2e],
    [0xa0, 0x4a, 0x00],
    [0x7d, 0x60, 0x08],
    [0x4f, 0x6b, 0x12],
    [0x1d, 0x6f, 0x42],
    [0x0e, 0x6b, 0x63],
    [0x15, 0x66, 0x82],
    [0x1f, 0x5f, 0xa8],
    [0x3f, 0x51, 0xb5],
    [0x6a, 0x46, 0xb0],
    [0x8e, 0x3a, 0x9d],
    [0xa6, 0x2c, 0x66],
];

/// One of an avatar's faces.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    /// Chooses the colour.
    pub(super) seed: u64,
    pub(super) initials: Vec<char>,
    /// A small picture, encoded.
    pub(super) picture: Option<Vec<u8>>,
}

/// At most two signs that stand for a name.
pub(super) fn initials(name: &str) -> Vec<char> {
    let words = name.split(|sign: char| !sign.is_alphanumeric());
    let firsts: Vec<char> = words.filter_map(|word| word.chars().next()).collect();
    let (first, last) = match firsts.as_slice() {
        [] => return Vec::new(),
        [only] => (*only, None),
        [first, .., last] => (*first, Some(*last)),
    };
    let upper = |sign: char| sign.to_uppercase().next().unwrap_or(sign);
    std::iter::once(first).chain(last).map(upper).collect()
}

/// A PNG of one face or several; more than there is room for are left out.
pub(super) fn draw(tiles: &[Tile]) -> Option<Vec<u8>> {
    let half = SIDE / 2;
    let quarter = |place: u32| (place % 2 * half, place / 2 * half, half, half);
    let left = (0, 0, half, SIDE);
    let places = match tiles.len() {
        0 | 1 => vec![(0, 0, SIDE, SIDE)],
        2 => vec![left, (half, 0, half, SIDE)],
        3 => vec![left, quarter(1), quarter(3)],
        _ => (0..4).map(quarter).collect(),
    };
    let mut canvas = RgbImage::new(SIDE, SIDE);
    for (tile, (x, y, width, height)) in tiles.iter().zip(places) {
        let drawn = face(tile, width, height);
        imageops::replace(&mut canvas, &drawn, i64::from(x), i64::from(y));
    }
    let mut octets = Cursor::new(Vec::new());
    canvas.write_to(&mut octets, ImageFormat::Png).ok()?;
    Some(octets.into_inner())
}

fn face(tile: &Tile, width: u32, height: u32) -> RgbImage {
    let photograph = tile.picture.as_deref().and_then(decoded);
    match photograph {
        Some(photograph) => covering(&photograph, width, height),
        None => lettered(tile, width, height),
    }
}

/// We drew it small ourselves; still nothing larger than that is decoded.
fn decoded(octets: &[u8]) -> Option<RgbImage> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(super::picture::THUMBNAIL_PIXELS);
    limits.max_image_height = Some(super::picture::THUMBNAIL_PIXELS);
    let mut reader = ImageReader::new(Cursor::new(octets));
    reader.limits(limits);
    let drawn = reader.with_guessed_format().ok()?.decode().ok()?.to_rgba8();
    let on_white = |pixel: &image::Rgba<u8>| {
        let [r, g, b, alpha] = pixel.0.map(u16::from);
        let mixed = |colour: u16| (colour * alpha + 255 * (255 - alpha)) / 255;
        Rgb([r, g, b].map(|colour| u8::try_from(mixed(colour)).unwrap_or(u8::MAX)))
    };
    let (width, height) = drawn.dimensions();
    let mut flat = RgbImage::new(width, height);
    for (to, from) in flat.pixels_mut().zip(drawn.pixels()) {
        *to = on_white(from);
    }
    Some(flat)
}

/// The middle of a picture, as large as fits.
fn covering(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (w, h) = picture.dimensions();
    // As much of one side as the other allows.
    let cut_w = w.min(h * width / height).max(1);
    let cut_h = h.min(w * height / width).max(1);
    let cut = imageops::crop_imm(picture, (w - cut_w) / 2, (h - cut_h) / 2, cut_w, cut_h);
    imageops::resize(&cut.to_image(), width, height, FilterType::Triangle)
}

fn lettered(tile: &Tile, width: u32, height: u32) -> RgbImage {
    let count = u64::try_from(COLOURS.len()).unwrap_or(1);
    let colour = usize::try_from(tile.seed % count).unwrap_or(0);
    let mut canvas = RgbImage::from_pixel(width, height, Rgb(COLOURS[colour]));
    let glyphs: Option<Vec<[u8; 7]>> = tile.initials.iter().map(|sign| glyph(*sign)).collect();
    match glyphs {
        Some(glyphs) if !glyphs.is_empty() => write(&mut canvas, &glyphs),
        _ => silhouette(&mut canvas),
    }
    canvas
}

/// Letters of five columns and seven rows, with one column between them, in the middle.
fn write(canvas: &mut RgbImage, glyphs: &[[u8; 7]]) {
    let columns = u32::try_from(glyphs.len()).unwrap_or(1) * 6 - 1;
    let cell = canvas.width().min(canvas.height()) / 20;
    let left = (canvas.width() - columns * cell) / 2;
    let top = (canvas.height() - 7 * cell) / 2;
    for (number, glyph) in (0..).zip(glyphs) {
        for (row, bits) in (0..).zip(glyph) {
            for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
                let corner = (left + (number * 6 + column) * cell, top + row * cell);
                fill(canvas, corner, cell);
            }
        }
    }
}

fn fill(canvas: &mut RgbImage, (x, y): (u32, u32), side: u32) {
    for at in (y..y + side).flat_map(|y| (x..x + side).map(move |x| (x, y))) {
        if let Some(pixel) = canvas.get_pixel_mut_checked(at.0, at.1) {
            *pixel = INK;
        }
    }
}

/// A head and shoulders, for names in scripts that we have no letters of.
fn silhouette(canvas: &mut RgbImage) {
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    let unit = width.min(height);
    let within = |x: i64, y: i64, cy: i64, radius: i64| {
        let (dx, dy) = (x - width / 2, y - cy);
        dx * dx + dy * dy <= radius * radius
    };
    for (x, y, pixel) in canvas.enumerate_pixels_mut() {
        let (x, y) = (i64::from(x), i64::from(y));
        let head = within(x, y, height / 2 - unit / 8, unit / 6);
        let shoulders = within(x, y, height / 2 + unit * 3 / 8, unit * 5 / 16);
        if head || shoulders {
            *pixel = INK;
        }
    }
}

/// Rows from the top, five bits each.
const GLYPHS: [(char, [u8; 7]); 42] = [
    ('A', [0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11]),
    ('B', [0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e]),
    ('C', [0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e]),
    ('D', [0x1e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1e]),
    ('E', [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f]),
    ('F', [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10]),
    ('G', [0x0e, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0f]),
    ('H', [0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11]),
    ('I', [0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e]),
    ('J', [0x07, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0c]),
    ('K', [0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11]),
    ('L', [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f]),
    ('M', [0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11]),
    ('N', [0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11]),
    ('O', [0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e]),
    ('P', [0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10]),
    ('Q', [0x0e, 0x11, 0x11, 0x11, 0x15, 0x12, 0x0d]),
    ('R', [0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11]),
    ('S', [0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e]),
    ('T', [0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04]),
    ('U', [0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e]),
    ('V', [0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04]),
    ('W', [0x11, 0x11, 0x11, 0x15, 0x15, 0x1b, 0x11]),
    ('X', [0x11, 0x11, 0x0a, 0x04, 0x0a, 0x11, 0x11]),
    ('Y', [0x11, 0x11, 0x0a, 0x04, 0x04, 0x04, 0x04]),
    ('Z', [0x1f, 0x01, 0x02, 0x04, 0x08, 0x10, 0x1f]),
    ('Æ', [0x0f, 0x14, 0x14, 0x1e, 0x14, 0x14, 0x17]),
    ('Ø', [0x0d, 0x12, 0x15, 0x15, 0x15, 0x09, 0x16]),
    ('Å', [0x04, 0x0a, 0x0e, 0x11, 0x1f, 0x11, 0x11]),
    ('Ä', [0x0a, 0x00, 0x0e, 0x11, 0x1f, 0x11, 0x11]),
    ('Ö', [0x0a, 0x00, 0x0e, 0x11, 0x11, 0x11, 0x0e]),
    ('Ü', [0x0a, 0x00, 0x11, 0x11, 0x11, 0x11, 0x0e]),
    ('0', [0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e]),
    ('1', [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e]),
    ('2', [0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f]),
    ('3', [0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e]),
    ('4', [0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02]),
    ('5', [0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e]),
    ('6', [0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e]),
    ('7', [0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08]),
    ('8', [0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e]),
    ('9', [0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c]),
];

fn glyph(sign: char) -> Option<[u8; 7]> {
    let plain = match sign {
        'À' | 'Á' | 'Â' | 'Ã' | 'Ą' | 'Ă' => 'A',
        'Ç' | 'Ć' | 'Č' => 'C',
        'È' | 'É' | 'Ê' | 'Ë' | 'Ę' | 'Ě' => 'E',
        'Ì' | 'Í' | 'Î' | 'Ï' | 'İ' => 'I',
        'Ł' => 'L',
        'Ñ' | 'Ń' | 'Ň' => 'N',
        'Ò' | 'Ó' | 'Ô' | 'Õ' | 'Ő' => 'O',
        'Ř' => 'R',
        'Ś' | 'Š' | 'Ş' | 'Ș' => 'S',
        'Ù' | 'Ú' | 'Û' | 'Ű' | 'Ů' => 'U',
        'Ý' | 'Ÿ' => 'Y',
        'Ź' | 'Ż' | 'Ž' => 'Z',
        other => other,
    };
    let found = GLYPHS.iter().find(|(known, _)| *known == plain);
    found.map(|(_, rows)| *rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(seed: u64, name: &str) -> Tile {
        Tile {
            seed,
            initials: initials(name),
            picture: None,
        }
    }

    fn pixels(tiles: &[Tile]) -> RgbImage {
        let octets = draw(tiles).expect("a picture");
        assert_eq!(octets, draw(tiles).expect("a picture"), "the same again");
        let drawn = image::load_from_memory(&octets).expect("a PNG").to_rgb8();
        assert_eq!(drawn.dimensions(), (SIDE, SIDE));
        drawn
    }

    #[test]
    fn a_name_has_two_initials_at_most() {
        for (name, signs) in [
            ("Ann Berg", "AB"),
            ("ann", "A"),
            ("åse-marie øye lund", "ÅL"),
            ("王小明", "王"),
            ("", ""),
            ("!?", ""),
        ] {
            assert_eq!(initials(name), signs.chars().collect::<Vec<_>>());
        }
    }

    #[test]
    fn faces_share_the_picture() {
        let colour = |seed: usize| Rgb(COLOURS[seed]);
        let all: Vec<Tile> = (0..5).map(|seed| tile(seed, "x")).collect();
        for (count, corners) in [
            (1, [0, 0, 0, 0]),
            (2, [0, 1, 0, 1]),
            (3, [0, 1, 0, 2]),
            (4, [0, 1, 2, 3]),
            (5, [0, 1, 2, 3]),
        ] {
            let drawn = pixels(&all[..count]);
            let end = SIDE - 1;
            let places = [(0, 0), (end, 0), (0, end), (end, end)];
            for ((x, y), seed) in places.into_iter().zip(corners) {
                assert_eq!(*drawn.get_pixel(x, y), colour(seed), "{count}: {x} {y}");
            }
        }
        pixels(&[]);
    }

    #[test]
    fn a_name_that_cannot_be_written_has_a_silhouette() {
        let ink = |name: &str| {
            pixels(&[tile(1, name)])
                .pixels()
                .filter(|p| **p == INK)
                .count()
        };
        assert_eq!(ink("王"), ink("אב"));
        assert_ne!(ink("王"), ink("W"));
        assert!(ink("Å") > 0 && ink("王") > 0);
    }

    #[test]
    fn a_photograph_covers_its_place() {
        let mut wide = RgbImage::from_pixel(300, 100, Rgb([10, 200, 30]));
        wide.put_pixel(0, 0, Rgb([255, 0, 0]));
        let mut octets = Cursor::new(Vec::new());
        wide.write_to(&mut octets, ImageFormat::Png).expect("a PNG");
        let shown = Tile {
            picture: Some(octets.into_inner()),
            ..tile(3, "x")
        };
        let drawn = pixels(&[shown, tile(3, "x")]);
        assert_eq!(
            *drawn.get_pixel(0, 0),
            Rgb([10, 200, 30]),
            "the middle of it"
        );
        assert_eq!(*drawn.get_pixel(SIDE - 1, 0), Rgb(COLOURS[3]));
        let broken = Tile {
            picture: Some(b"\x89PNG\r\n\x1a\nno".to_vec()),
            ..tile(3, "x")
        };
        assert_eq!(*pixels(&[broken]).get_pixel(0, 0), Rgb(COLOURS[3]));
    }
}
