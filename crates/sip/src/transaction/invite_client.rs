//! INVITE client transaction: RFC 3261 figure 5 as corrected by RFC 6026 §8.4.

use std::time::Duration;

use smallvec::smallvec;

use super::{Action, Actions, ClientInput, FIRST_INTERVAL};
use crate::timer::{T1_64, TIMER_D, Timer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

#[derive(Debug, Clone)]
pub(crate) struct InviteClient {
    pub(crate) state: State,
    reliable: bool,
    interval: Duration,
}

impl InviteClient {
    pub(crate) fn new(reliable: bool) -> (Self, Actions) {
        let mut actions: Actions = smallvec![Action::Send, Action::Start(Timer::B, T1_64)];
        if !reliable {
            actions.push(Action::Start(Timer::A, FIRST_INTERVAL));
        }
        (
            Self {
                state: State::Calling,
                reliable,
                interval: FIRST_INTERVAL,
            },
            actions,
        )
    }

    pub(crate) fn handle(&mut self, input: ClientInput) -> Actions {
        use ClientInput::{ConnectionLost, Fired, Response, TransportFailed};
        match (self.state, input) {
            (State::Calling | State::Proceeding, Response(100..=199)) => {
                self.state = State::Proceeding;
                smallvec![Action::Pass]
            }
            // RFC 6026 §8.4: a 2xx does not end the transaction; its retransmissions still belong to it.
            (State::Calling | State::Proceeding, Response(200..=299)) => {
                self.state = State::Accepted;
                smallvec![Action::Pass, Action::Start(Timer::M, T1_64)]
            }
            (State::Accepted, Response(200..=299)) => smallvec![Action::Pass],
            (State::Calling | State::Proceeding, Response(_)) => self.complete(),
            (State::Completed, Response(300..)) => smallvec![Action::Ack],
            // RFC 3261 §17.1.1.2: doubled without limit, for Timer B ends it.
            (State::Calling, Fired(Timer::A)) => {
                self.interval *= 2;
                smallvec![Action::Send, Action::Start(Timer::A, self.interval)]
            }
            (State::Calling, Fired(Timer::B)) | (State::Calling, TransportFailed) => {
                self.state = State::Terminated;
                smallvec![Action::Fail, Action::Terminate]
            }
            // No answer comes over a connection that is gone (RFC 3261 §16.9): nobody waits for Timer C.
            (State::Calling | State::Proceeding, ConnectionLost) => {
                self.state = State::Terminated;
                smallvec![Action::Fail, Action::Terminate]
            }
            (State::Completed, TransportFailed) => self.terminate(),
            (State::Completed, Fired(Timer::D)) | (State::Accepted, Fired(Timer::M)) => {
                self.terminate()
            }
            _ => smallvec![],
        }
    }

    fn complete(&mut self) -> Actions {
        self.state = State::Completed;
        let mut actions: Actions = smallvec![Action::Pass, Action::Ack];
        actions.extend(super::linger(self.reliable, Timer::D, TIMER_D));
        actions
    }

    fn terminate(&mut self) -> Actions {
        self.state = State::Terminated;
        smallvec![Action::Terminate]
    }
}
