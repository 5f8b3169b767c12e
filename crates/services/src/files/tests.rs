//! Files against a real store and a real folder, with time as an argument; and contents that are not what they seem.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, Rgb, RgbImage};
use sidetone_conversation::{Command, Content};
use sidetone_model::{AccountId, AddressOfRecord, Origin, Role};
use sidetone_store::{NewAccount, Store, Upload, Writer, WriterOptions};

use super::{FileError, FileLimits, Files, Links, Person, picture, sound};
use crate::conversations::{Caller, Conversations, Order};

const DAY_MS: u64 = 24 * 3600 * 1000;

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sidetone-files-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, content: &[u8]) -> PathBuf {
        let path = self.0.join("content");
        std::fs::write(&path, content).expect("a file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn open(scratch: &Scratch) -> (Store, Writer, Arc<Files>) {
    let store = Store::open("sqlite", &scratch.0).await.expect("a store");
    let writer = store.start_writer(WriterOptions::default()).await;
    let limits = FileLimits {
        octets: 1 << 20,
        account_octets: 1 << 30,
        unfinished: 2,
    };
    let links = Links::new([1; 32], String::new(), 60);
    let files = Files::open(store.clone(), limits, links).expect("files");
    (store, writer.expect("a writer"), Arc::new(files))
}

async fn upload(files: &Arc<Files>, account: i64, content: &[u8], now_ms: u64) -> Upload {
    static NAME: AtomicU32 = AtomicU32::new(0);
    let name = NAME.fetch_add(1, Ordering::Relaxed);
    let mut incoming = files
        .begin(AccountId(account), u128::from(name))
        .await
        .expect("a place");
    incoming.write(content).await.expect("room");
    incoming.finish("x", "", now_ms).await.expect("kept")
}

fn aor(text: &str) -> AddressOfRecord {
    text.parse().expect("an address")
}

async fn is_there(files: &Files, upload: &Upload) -> bool {
    let address = aor("ann@x.org");
    let person = Person {
        account: upload.account,
        address: &address,
    };
    match files.open_for(person, upload.id).await {
        Ok(opened) => opened.path.is_file(),
        Err(error) => {
            assert_eq!(error, FileError::Unknown);
            false
        }
    }
}

/// Says something with a file in a conversation of ann and bob.
async fn say(store: &Store, writer: &Writer, files: &Files, upload: &Upload, now_ms: u64) {
    let started = Conversations::start(
        store.clone(),
        writer.clone(),
        Arc::default(),
        Arc::default(),
        Arc::default(),
        7,
    );
    let conversations = Arc::new(started.await.expect("conversations"));
    let ann = Caller {
        address: aor("ann@x.org"),
        name: String::new(),
    };
    let conversation = conversations.pair(now_ms, &ann, &aor("bob@x.org")).await;
    let person = Person {
        account: upload.account,
        address: &ann.address,
    };
    let file = files.attach(person, upload.id, false, now_ms).await;
    let order = Order {
        conversation: conversation.expect("a conversation"),
        command: Command::Post(Content::File {
            file: file.expect("a file"),
            caption: String::new(),
            reply_to: None,
        }),
        origin: Origin([3; 16]),
        keyed: false,
    };
    let done = conversations.command(now_ms, &ann, order).await;
    done.expect("said");
}

#[tokio::test]
async fn what_nobody_uses_goes_after_a_day() {
    let scratch = Scratch::new();
    let (store, writer, files) = open(&scratch).await;
    let unused = upload(&files, 1, b"unused", 0).await;
    let said = upload(&files, 1, b"said", 0).await;
    let shown = upload(&files, 1, &png(4, 4), 0).await;
    let one = upload(&files, 1, b"the same", 0).await;
    let other = upload(&files, 2, b"the same", DAY_MS / 2).await;
    say(&store, &writer, &files, &said, 5).await;
    let ann = NewAccount {
        address: aor("ann@x.org"),
        name: "Ann".to_owned(),
        profile: "default".to_owned(),
        role: Role::User,
        password: None,
        aliases: Vec::new(),
    };
    let account = store.add_account(&ann).await.expect("an account");
    store
        .set_avatar(account, Some(shown.id))
        .await
        .expect("shown");
    assert_eq!(files.sweep(DAY_MS).await, Ok(0), "not yet");
    assert_eq!(files.sweep(DAY_MS + 1).await, Ok(2));
    assert!(!is_there(&files, &unused).await);
    assert!(!is_there(&files, &one).await);
    assert!(
        is_there(&files, &other).await,
        "the same content, still used"
    );
    assert_eq!(files.sweep(DAY_MS * 9).await, Ok(1));
    assert!(!is_there(&files, &other).await);
    assert!(is_there(&files, &said).await, "in a conversation");
    assert!(is_there(&files, &shown).await, "somebody's picture");
    let left = files.folder.digests().expect("a folder");
    assert_eq!(left.len(), 2);
    // What came again after it had gone is there.
    let again = upload(&files, 1, b"the same", DAY_MS * 9).await;
    assert!(again.id > other.id, "a number is never used again");
    assert!(is_there(&files, &again).await);
}

#[tokio::test]
async fn what_lies_there_without_a_row_goes() {
    let scratch = Scratch::new();
    let (_store, _writer, files) = open(&scratch).await;
    let kept = upload(&files, 1, b"kept", 0).await;
    let (_, path) = files.folder.begin(77).expect("a file");
    files.folder.keep(&path, &[9; 32]).expect("a stray");
    assert_eq!(files.folder.digests().expect("a folder").len(), 2);
    assert_eq!(files.sweep_strays().await, Ok(1));
    assert_eq!(files.sweep_strays().await, Ok(0));
    assert!(is_there(&files, &kept).await);
    assert!(!files.folder.path(&[9; 32]).exists());
}

#[tokio::test]
async fn what_is_dropped_leaves_nothing() {
    let scratch = Scratch::new();
    let (_store, _writer, files) = open(&scratch).await;
    let incoming = scratch.0.join("files/incoming");
    let count = || std::fs::read_dir(&incoming).expect("a folder").count();
    let mut one = files.begin(AccountId(1), 1).await.expect("a place");
    let _two = files.begin(AccountId(1), 2).await.expect("a place");
    one.write(&[1; 400_000]).await.expect("room");
    assert_eq!(count(), 2);
    let third = files.begin(AccountId(1), 3).await.map(drop);
    assert_eq!(third, Err(FileError::TooMany));
    assert_eq!(one.write(&[1; 700_000]).await, Err(FileError::TooLarge));
    drop(one);
    assert_eq!(count(), 1);
    files
        .begin(AccountId(1), 3)
        .await
        .map(drop)
        .expect("a place");
    assert!(files.folder.digests().expect("a folder").is_empty());
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut octets = Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(width, height, Rgb([200, 10, 10]));
    picture
        .write_to(&mut octets, ImageFormat::Png)
        .expect("a PNG");
    octets.into_inner()
}

/// A JPEG, red on its left half, that says where it was taken and that it is to be turned to the right.
fn photograph() -> Vec<u8> {
    let red_then_blue = |x: u32, _| match x < 400 {
        true => Rgb([250, 0, 0]),
        false => Rgb([0, 0, 250]),
    };
    let picture = RgbImage::from_fn(800, 400, red_then_blue);
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, 90);
    picture.write_with_encoder(encoder).expect("a JPEG");
    // TIFF 6.0: one directory with Orientation (6) and ImageDescription.
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02".to_vec();
    exif.extend(b"\x01\x0e\0\x02\0\0\0\x0d\0\0\0\x26");
    exif.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0");
    exif.extend(b"\0\0\0\0at our house\0");
    let length = u16::try_from(exif.len() + 2).expect("a length");
    let mut with_exif = jpeg[..2].to_vec();
    with_exif.extend([0xff, 0xe1]);
    with_exif.extend(length.to_be_bytes());
    with_exif.extend(exif);
    with_exif.extend(&jpeg[2..]);
    with_exif
}

#[test]
fn a_small_picture_is_upright_and_tells_nothing_else() {
    let scratch = Scratch::new();
    let large = photograph();
    let secret = b"at our house";
    let holds = |octets: &[u8]| octets.windows(secret.len()).any(|part| part == secret);
    assert!(holds(&large));
    let path = scratch.write(&large);
    let looked = picture::look(&path, "image/jpeg", large.len() as u64).expect("a picture");
    assert_eq!(looked.size, Some((400, 800)), "as it is to be shown");
    let small = looked.small.expect("a small one");
    assert!(!holds(&small.octets));
    let drawn = image::load_from_memory(&small.octets)
        .expect("a picture")
        .to_rgb8();
    assert_eq!(drawn.dimensions(), (160, 320));
    let (top, bottom) = (drawn.get_pixel(80, 20), drawn.get_pixel(80, 300));
    assert!(top.0[0] > 200 && top.0[2] < 60, "{top:?}");
    assert!(bottom.0[2] > 200 && bottom.0[0] < 60, "{bottom:?}");
}

#[test]
fn a_bomb_is_known_before_it_goes_off() {
    let scratch = Scratch::new();
    // What a GIF claims stands in its first octets.
    let gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;";
    let path = scratch.write(gif);
    assert_eq!(
        picture::look(&path, "image/gif", gif.len() as u64),
        Err(picture::Bomb)
    );
    // Large, but not impossible: a size and no small one.
    let gif = b"GIF89a\x10\x27\x10\x27\0\0\0,\0\0\0\0\x10\x27\x10\x27\0\x02\x02D\x01\0;";
    let path = scratch.write(gif);
    let looked = picture::look(&path, "image/gif", gif.len() as u64).expect("a picture");
    assert_eq!((looked.size, looked.small), (Some((10_000, 10_000)), None));
}

/// One page of Ogg (RFC 3533 §6), with its checksum.
fn ogg_page(kind: u8, granule: u64, number: u32, packet: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(kind);
    page.extend(granule.to_le_bytes());
    page.extend(1_u32.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    page.extend([1, u8::try_from(packet.len()).expect("a short packet")]);
    page.extend(packet);
    let crc = page.iter().fold(0_u32, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    });
    page[22..26].copy_from_slice(&crc.to_le_bytes());
    page
}

/// Opus in Ogg (RFC 7845), 20 ms a packet.
fn ogg(packets: u32) -> Vec<u8> {
    let head = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0";
    let mut sound = ogg_page(2, 0, 0, head);
    sound.extend(ogg_page(0, 0, 1, b"OpusTags\0\0\0\0\0\0\0\0"));
    for number in 1..=packets {
        let last = if number == packets { 4 } else { 0 };
        let granule = u64::from(number) * 960;
        sound.extend(ogg_page(last, granule, number + 1, &[0xf8, 0xff, 0xfe]));
    }
    sound
}

fn element(name: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a length") | 0x1000_0000;
    [name, &length.to_be_bytes(), content].concat()
}

/// Opus in WebM as browsers record it: sizes and the duration are not known when it begins.
fn webm(blocks: u16) -> Vec<u8> {
    let head = [
        element(&[0x42, 0x86], &[1]),
        element(&[0x42, 0xf7], &[1]),
        element(&[0x42, 0xf2], &[4]),
        element(&[0x42, 0xf3], &[8]),
        element(&[0x42, 0x82], b"webm"),
        element(&[0x42, 0x87], &[4]),
        element(&[0x42, 0x85], &[2]),
    ];
    let info = [
        element(&[0x2a, 0xd7, 0xb1], &1_000_000_u32.to_be_bytes()),
        element(&[0x4d, 0x80], b"x"),
        element(&[0x57, 0x41], b"x"),
    ];
    let opus = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0";
    let audio = [
        element(&[0xb5], &48_000_f32.to_be_bytes()),
        element(&[0x9f], &[1]),
    ];
    let track = [
        element(&[0xd7], &[1]),
        element(&[0x73, 0xc5], &[1]),
        element(&[0x83], &[2]),
        element(&[0x86], b"A_OPUS"),
        element(&[0x63, 0xa2], opus),
        element(&[0xe1], &audio.concat()),
    ];
    let mut cluster = element(&[0xe7], &[0]);
    for number in 0..blocks {
        let at = (number * 20).to_be_bytes();
        cluster.extend(element(
            &[0xa3],
            &[0x81, at[0], at[1], 0x80, 0xf8, 0xff, 0xfe],
        ));
    }
    [
        element(&[0x1a, 0x45, 0xdf, 0xa3], &head.concat()),
        b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        element(&[0x15, 0x49, 0xa9, 0x66], &info.concat()),
        element(
            &[0x16, 0x54, 0xae, 0x6b],
            &element(&[0xae], &track.concat()),
        ),
        element(&[0x1f, 0x43, 0xb6, 0x75], &cluster),
    ]
    .concat()
}

/// Silence in MPEG-1 layer III, 128 kbit/s at 44.1 kHz: 26 ms a frame.
fn mp3(frames: usize) -> Vec<u8> {
    let mut frame = vec![0xff, 0xfb, 0x90, 0xc0];
    frame.resize(417, 0);
    frame.repeat(frames)
}

fn wav(ms: u32) -> Vec<u8> {
    let samples = vec![0_u8; (16 * ms) as usize];
    let length = |count: usize| u32::try_from(count).expect("a length").to_le_bytes();
    let mut sound = b"RIFF".to_vec();
    sound.extend(length(36 + samples.len()));
    sound.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
    sound.extend(length(samples.len()));
    sound.extend(samples);
    sound
}

fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 8).expect("a length");
    [&length.to_be_bytes()[..], name, content].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Where its samples lie, and what they are.
fn m4a_table(samples: u32) -> Vec<u8> {
    let config = [0x05, 0x02, 0x15, 0x88];
    let decoder = [&[0x04, 0x11, 0x40, 0x15, 0, 0, 0][..], &[0; 8], &config].concat();
    let esds = [
        &[0, 0, 0, 0, 0x03, 0x19, 0, 1, 0][..],
        &decoder,
        &[0x06, 0x01, 0x02],
    ]
    .concat();
    let mp4a = [
        words(&[0, 1, 0, 0, 0x1_0010, 0, 8_000 << 16]),
        boxed(b"esds", &esds),
    ]
    .concat();
    let stsd = [words(&[0, 1]), boxed(b"mp4a", &mp4a)].concat();
    [
        boxed(b"stsd", &stsd),
        boxed(b"stts", &words(&[0, 1, samples, 1_024])),
        boxed(b"stsc", &words(&[0, 1, 1, samples, 1])),
        boxed(b"stsz", &words(&[0, 4, samples])),
        boxed(b"stco", &words(&[0, 1, 32])),
    ]
    .concat()
}

/// AAC in MPEG-4 (ISO/IEC 14496-12), as phones record it: one track, one chunk, 1,024 samples of 8 kHz each.
fn m4a(samples: u32) -> Vec<u8> {
    let unity = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
    let length = samples * 1_024;
    let mvhd = [
        words(&[0, 0, 0, 8_000, length, 0x1_0000, 0x0100_0000, 0, 0]),
        words(&unity),
        words(&[0, 0, 0, 0, 0, 0, 2]),
    ];
    let tkhd = [
        words(&[1, 0, 0, 1, 0, length, 0, 0, 0, 0x0100_0000]),
        words(&unity),
        words(&[0, 0]),
    ];
    let mdhd = words(&[0, 0, 0, 8_000, length, 0x55c4_0000]);
    let hdlr = [words(&[0, 0]), b"soun".to_vec(), words(&[0, 0, 0]), vec![0]].concat();
    let data = boxed(
        b"dref",
        &[words(&[0, 1]), boxed(b"url ", &words(&[1]))].concat(),
    );
    let minf = [
        boxed(b"smhd", &words(&[0, 0])),
        boxed(b"dinf", &data),
        boxed(b"stbl", &m4a_table(samples)),
    ];
    let mdia = [
        boxed(b"mdhd", &mdhd),
        boxed(b"hdlr", &hdlr),
        boxed(b"minf", &minf.concat()),
    ];
    let trak = [
        boxed(b"tkhd", &tkhd.concat()),
        boxed(b"mdia", &mdia.concat()),
    ];
    let moov = [
        boxed(b"mvhd", &mvhd.concat()),
        boxed(b"trak", &trak.concat()),
    ];
    let sound = vec![0; usize::try_from(samples * 4).expect("a length")];
    [
        boxed(b"ftyp", b"M4A \0\0\0\0M4A isom"),
        boxed(b"mdat", &sound),
        boxed(b"moov", &moov.concat()),
    ]
    .concat()
}

fn look(scratch: &Scratch, content: &[u8]) -> sound::Recording {
    sound::look(&scratch.write(content), content.len() as u64)
}

#[test]
fn sound_lasts_as_long_as_it_does() {
    let scratch = Scratch::new();
    for (name, content, from_ms, to_ms) in [
        ("WAV", wav(1_500), 1_500, 1_500),
        ("Ogg", ogg(100), 1_990, 2_010),
        ("WebM", webm(100), 1_970, 2_010),
        ("MP3", mp3(100), 2_500, 2_700),
        ("M4A", m4a(25), 3_200, 3_200),
    ] {
        let looked = look(&scratch, &content);
        assert!(looked.sound_only, "{name}");
        let ms = looked.duration_ms.unwrap_or_default();
        assert!((from_ms..=to_ms).contains(&ms), "{name}: {ms} ms");
    }
    assert_eq!(
        look(&scratch, b"no sound at all"),
        sound::Recording::default()
    );
}

#[test]
fn contents_that_were_tampered_with_are_looked_at_in_vain_and_no_more() {
    let scratch = Scratch::new();
    let seeds = [
        ("image/png", png(40, 40)),
        ("image/jpeg", photograph()),
        (
            "image/gif",
            b"GIF89a\x04\0\x04\0\0\0\0,\0\0\0\0\x04\0\x04\0\0\x02\x02D\x01\0;".to_vec(),
        ),
        ("audio/wav", wav(100)),
        ("audio/ogg", ogg(5)),
        ("video/webm", webm(5)),
        ("audio/mpeg", mp3(4)),
        ("audio/mp4", m4a(3)),
    ];
    let mut state = 5_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(state >> 8).expect("a number") % below.max(1)
    };
    for round in 0..700 {
        let (content_type, seed) = &seeds[round % seeds.len()];
        let mut content = seed.clone();
        for _ in 0..=random(6) {
            let at = random(content.len().min(400));
            match random(4) {
                0 => content.truncate(at + random(content.len())),
                1 => content.insert(at, 0xff),
                2 => drop(content.splice(at..at, [0x7f, 0xff, 0xff, 0xff])),
                _ => content[at] = u8::try_from(random(256)).expect("an octet"),
            }
            if content.is_empty() {
                content.push(0);
            }
        }
        look_both(&scratch.write(&content), content_type, content.len() as u64);
    }
}

fn look_both(path: &Path, content_type: &str, octets: u64) {
    if content_type.starts_with("image/") {
        if let Ok(looked) = picture::look(path, content_type, octets) {
            let small = looked.small.map_or(0, |small| small.octets.len());
            assert!(small < 1 << 20);
        }
    } else {
        sound::look(path, octets);
    }
}
