//! How long sound and video last, and how large a video is.
//!
//! *Invariant*: containers are read, their content is never decoded; no more is read than some times the file's size,
//! whatever the file says of itself.

use std::fs::File;
use std::io::{Error, Read, Result, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::common::Limit;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::{Duration, TimeBase};

/// What a recording says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recording {
    pub(super) duration_ms: Option<u64>,
    pub(super) size: Option<(u32, u32)>,
    /// Nothing to look at.
    pub(super) sound_only: bool,
}

/// Looks at a file that begins like sound or video.
pub(super) fn look(path: &Path, octets: u64) -> Recording {
    let Ok(file) = File::open(path) else {
        return Recording::default();
    };
    let source = Bounded {
        file,
        octets,
        left: octets.saturating_mul(3).saturating_add(1 << 20),
    };
    // A reader that panics is a reader that could not.
    let looked = std::panic::catch_unwind(|| look_at(source));
    looked.ok().flatten().unwrap_or_default()
}

fn look_at(source: Bounded) -> Option<Recording> {
    let stream = MediaSourceStream::new(Box::new(source), Default::default());
    let nothing = MetadataOptions::default()
        .limit_tag_bytes(Limit::Maximum(4_096))
        .limit_visual_bytes(Limit::Maximum(0));
    let probe = symphonia::default::get_probe();
    let mut format = probe
        .probe(&Hint::new(), stream, Default::default(), nothing)
        .ok()?;
    let tracks = format.tracks();
    let sound =
        |track: &symphonia::core::formats::Track| track.track_type() == Some(TrackType::Audio);
    let sound_only = !tracks.is_empty() && tracks.iter().all(sound);
    let size = tracks.iter().find_map(|track| match &track.codec_params {
        Some(CodecParameters::Video(video)) => {
            Some((u32::from(video.width?), u32::from(video.height?)))
        }
        _ => None,
    });
    let info = *format.media_info();
    let told = info
        .time_base
        .zip(info.duration.filter(|told| told.get() > 0));
    let duration_ms = match told {
        Some((base, duration)) => Some(milliseconds(base, duration)),
        None => counted(format.as_mut()),
    };
    Some(Recording {
        duration_ms,
        size,
        sound_only,
    })
}

/// Recorders that write as they go (a browser's) leave the duration out: the last packet says it.
fn counted(format: &mut dyn FormatReader) -> Option<u64> {
    let bases: Vec<(u32, TimeBase)> = format
        .tracks()
        .iter()
        .filter_map(|track| Some((track.id, track.time_base?)))
        .collect();
    let mut longest = None;
    while let Ok(Some(packet)) = format.next_packet() {
        let base = bases.iter().find(|(track, _)| *track == packet.track_id);
        let end = u64::try_from(packet.pts.saturating_add(packet.dur).get()).unwrap_or(0);
        let end = base.map(|(_, base)| milliseconds(*base, Duration::from(end)));
        longest = longest.max(end);
    }
    longest
}

fn milliseconds(base: TimeBase, duration: Duration) -> u64 {
    let (numer, denom) = (u128::from(base.numer.get()), u128::from(base.denom.get()));
    let ms = u128::from(duration.get()) * numer * 1_000 / denom;
    u64::try_from(ms).unwrap_or(u64::MAX)
}

/// A file of which so much is read and no more.
struct Bounded {
    file: File,
    octets: u64,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.file.read(buffer)?;
        let spent = u64::try_from(read).unwrap_or(u64::MAX);
        // A read costs at least a little, so that reading nothing over and over has an end, too.
        self.left = self
            .left
            .checked_sub(spent.max(64))
            .ok_or_else(|| Error::other("read more than there is"))?;
        Ok(read)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.file.seek(to)
    }
}

impl MediaSource for Bounded {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.octets)
    }
}
