//! Which of the branches' final responses goes back (RFC 3261 §16.7 steps 6 and 7).
//!
//! *Invariant*: the smaller rank wins, and of equal ranks the one that came first.

use crate::Message;

/// A final response that is not a 2xx.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Of a branch.
    Theirs(Box<Message>),
    /// Made here: status and why.
    Ours(u16, &'static str),
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Theirs(message) => message.status().unwrap_or(500),
            Self::Ours(status, _) => *status,
        }
    }
}

/// Step 6: a 6xx before all others, then the lowest class. Within 4xx those that tell the caller what to change come
/// first; those that tell least (nobody there, no answer, cancelled by us) come last. `cancelled`: the caller has
/// given up and waits for 487.
pub(super) fn rank(status: u16, cancelled: bool) -> u16 {
    let class = match status {
        600.. => 0,
        487 if cancelled => 1,
        300..=399 => 2,
        400..=499 => 3,
        _ => 4,
    };
    let within = match status {
        401 | 407 | 415 | 420 | 484 => 0,
        486 => 1,
        480 => 3,
        408 | 430 => 4,
        487 => 5,
        _ => 2,
    };
    class * 8 + within
}

pub(super) fn is_challenge(status: u16) -> bool {
    matches!(status, 401 | 407)
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn the_order_of_final_responses() {
        let order = [603, 302, 407, 486, 404, 480, 408, 487, 500];
        for pair in order.windows(2) {
            assert!(rank(pair[0], false) < rank(pair[1], false), "{pair:?}");
        }
        assert!(rank(487, true) < rank(302, true) && rank(603, true) < rank(487, true));
        assert_eq!(rank(401, false), rank(484, false));
    }
}
