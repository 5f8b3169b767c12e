//! The network: what becomes of a datagram.
//!
//! *Invariant*: every datagram takes the same number of draws, so that a rarer loss does not reshuffle everything else.

use crate::chance::Chance;

/// How the network treats datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Of a hundred datagrams so many are lost.
    pub loss_percent: u8,
    /// Of a hundred datagrams so many arrive twice.
    pub twice_percent: u8,
    /// Every datagram takes at least so long.
    pub delay_us: u64,
    /// And up to so much longer, each for itself: they overtake one another.
    pub jitter_us: u64,
}

impl Weather {
    /// Nothing is lost, nothing overtakes.
    pub const FAIR: Self = Self {
        loss_percent: 0,
        twice_percent: 0,
        delay_us: 5_000,
        jitter_us: 0,
    };

    /// Three in ten are lost, some come twice, all come in disorder.
    pub const STORM: Self = Self {
        loss_percent: 30,
        twice_percent: 5,
        delay_us: 5_000,
        jitter_us: 200_000,
    };
}

/// What becomes of one datagram: when its copies arrive, after how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The datagram; `None`: lost.
    pub first_us: Option<u64>,
    /// Its double.
    pub second_us: Option<u64>,
}

impl Weather {
    /// Decides.
    pub fn fate(&self, chance: &mut Chance) -> Fate {
        let (lost, twice) = (
            chance.percent(self.loss_percent),
            chance.percent(self.twice_percent),
        );
        let (first, second) = (self.delay(chance), self.delay(chance));
        Fate {
            first_us: (!lost).then_some(first),
            second_us: (twice && !lost).then_some(second),
        }
    }

    fn delay(&self, chance: &mut Chance) -> u64 {
        self.delay_us + chance.below(self.jitter_us + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fair_weather_loses_nothing_and_keeps_order() {
        let mut chance = Chance::new(1);
        for _ in 0..1_000 {
            let fate = Weather::FAIR.fate(&mut chance);
            assert_eq!((fate.first_us, fate.second_us), (Some(5_000), None));
        }
    }

    #[test]
    fn a_storm_loses_doubles_and_disorders() {
        let mut chance = Chance::new(1);
        let fates: Vec<Fate> = (0..1_000)
            .map(|_| Weather::STORM.fate(&mut chance))
            .collect();
        let lost = fates.iter().filter(|fate| fate.first_us.is_none()).count();
        let twice = fates.iter().filter(|fate| fate.second_us.is_some()).count();
        assert!((250..350).contains(&lost), "{lost}");
        assert!((15..80).contains(&twice), "{twice}");
        assert!(
            fates
                .windows(2)
                .any(|pair| pair[0].first_us > pair[1].first_us)
        );
    }
}
