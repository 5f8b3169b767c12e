//! INVITE server transaction: RFC 3261 figure 7 as corrected by RFC 6026 §8.5.

use std::time::Duration;

use smallvec::smallvec;

use super::{Action, Actions, FIRST_INTERVAL, ServerInput, doubled};
use crate::timer::{T1_64, T4, TRYING_DELAY, Timer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

#[derive(Debug, Clone)]
pub(crate) struct InviteServer {
    pub(crate) state: State,
    reliable: bool,
    answered: bool,
    interval: Duration,
}

impl InviteServer {
    pub(crate) fn new(reliable: bool) -> (Self, Actions) {
        let machine = Self {
            state: State::Proceeding,
            reliable,
            answered: false,
            interval: FIRST_INTERVAL,
        };
        (
            machine,
            smallvec![Action::Start(Timer::Trying, TRYING_DELAY)],
        )
    }

    pub(crate) fn handle(&mut self, input: ServerInput) -> Actions {
        use ServerInput::{Ack, Fired, Respond, Retransmission};
        match (self.state, input) {
            (State::Proceeding, Retransmission) if !self.answered => self.trying(),
            (State::Proceeding, Fired(Timer::Trying)) if !self.answered => self.trying(),
            (State::Proceeding | State::Completed, Retransmission) => smallvec![Action::Send],
            (State::Proceeding, Respond(100..=199)) => {
                self.answered = true;
                smallvec![Action::Send]
            }
            // RFC 6026 §8.5: the transaction user retransmits the 2xx; retransmitted INVITEs are absorbed.
            (State::Proceeding, Respond(200..=299)) => {
                self.state = State::Accepted;
                smallvec![Action::Send, Action::Start(Timer::L, T1_64)]
            }
            (State::Accepted, Respond(200..=299)) => smallvec![Action::Send],
            (State::Accepted, Ack) => smallvec![Action::Pass],
            (State::Proceeding, Respond(_)) => self.complete(),
            (State::Completed, Fired(Timer::G)) => {
                self.interval = doubled(self.interval);
                smallvec![Action::Send, Action::Start(Timer::G, self.interval)]
            }
            (State::Completed, Fired(Timer::H)) => self.terminate(Action::Fail),
            (State::Completed, Ack) => {
                self.state = State::Confirmed;
                super::linger(self.reliable, Timer::I, T4)
            }
            (State::Confirmed, Fired(Timer::I)) | (State::Accepted, Fired(Timer::L)) => {
                self.terminate(Action::Terminate)
            }
            _ => smallvec![],
        }
    }

    fn trying(&mut self) -> Actions {
        self.answered = true;
        smallvec![Action::Trying]
    }

    fn complete(&mut self) -> Actions {
        self.state = State::Completed;
        let mut actions: Actions = smallvec![Action::Send, Action::Start(Timer::H, T1_64)];
        if !self.reliable {
            actions.push(Action::Start(Timer::G, FIRST_INTERVAL));
        }
        actions
    }

    fn terminate(&mut self, last: Action) -> Actions {
        self.state = State::Terminated;
        if last == Action::Fail {
            smallvec![Action::Fail, Action::Terminate]
        } else {
            smallvec![Action::Terminate]
        }
    }
}
