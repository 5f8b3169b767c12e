//! What `log.level` means.
//!
//! *Invariant*: a level is for our own crates; the libraries say no more than info unless a
//! directive names them.

use tracing::Level;
use tracing_subscriber::EnvFilter;

/// What every target of ours begins with.
const OURS: &str = "sidetone";

/// The filter for a `log.level` that [`is_level`] takes.
pub(crate) fn log_filter(level: &str) -> EnvFilter {
    EnvFilter::builder().parse_lossy(directives(level))
}

/// Whether it is a level, `TARGET=LEVEL`, or several of these with commas.
pub(super) fn is_level(text: &str) -> bool {
    let fits = |part: &str| match part.split_once('=') {
        Some((target, level)) => !target.is_empty() && level.parse::<Level>().is_ok(),
        None => part.parse::<Level>().is_ok(),
    };
    parts(text).all(fits) && EnvFilter::builder().parse(directives(text)).is_ok()
}

fn directives(text: &str) -> String {
    let level = parts(text)
        .filter_map(|part| part.parse::<Level>().ok())
        .last();
    let level = level.unwrap_or(Level::INFO);
    let mut all = vec![
        level.min(Level::INFO).to_string(),
        format!("{OURS}={level}"),
    ];
    all.extend(
        parts(text)
            .filter(|part| part.contains('='))
            .map(str::to_owned),
    );
    all.join(",")
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Which of four events a level lets through.
    fn heard(level: &str) -> Vec<&'static str> {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(log_filter(level))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::debug!(target: "sidetone_engine::shard", "ours-debug");
            tracing::info!(target: "sidetone", "ours-info");
            tracing::debug!(target: "hyper::proto", "library-debug");
            tracing::info!(target: "sqlx", "library-info");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let mut events = vec!["ours-debug", "ours-info", "library-debug", "library-info"];
        events.retain(|event| text.contains(event));
        events
    }

    #[test]
    fn a_level_is_for_our_own_crates() {
        assert_eq!(heard("debug"), ["ours-debug", "ours-info", "library-info"]);
        assert_eq!(heard("trace"), ["ours-debug", "ours-info", "library-info"]);
        assert_eq!(heard("info"), ["ours-info", "library-info"]);
        assert!(heard("warn").is_empty());
        let asked = ["ours-info", "library-debug", "library-info"];
        assert_eq!(heard("hyper=debug"), asked);
        assert_eq!(heard("warn, hyper=debug"), ["library-debug"]);
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in ["", "loud", "info,", "=debug", "hyper=loud", "hyper"] {
            assert!(!is_level(text), "{text:?}");
        }
        for text in [
            "error",
            "debug",
            "info,hyper=debug",
            "sidetone_engine=trace",
        ] {
            assert!(is_level(text), "{text:?}");
        }
    }
}
