//! Non-INVITE client transaction: RFC 3261 figure 6.

use std::time::Duration;

use smallvec::smallvec;

use super::{Action, Actions, ClientInput, FIRST_INTERVAL, doubled};
use crate::timer::{T1_64, T2, T4, Timer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) state: State,
    reliable: bool,
    interval: Duration,
}

impl Client {
    pub(crate) fn new(reliable: bool) -> (Self, Actions) {
        let mut actions: Actions = smallvec![Action::Send, Action::Start(Timer::F, T1_64)];
        if !reliable {
            actions.push(Action::Start(Timer::E, FIRST_INTERVAL));
        }
        (
            Self {
                state: State::Trying,
                reliable,
                interval: FIRST_INTERVAL,
            },
            actions,
        )
    }

    pub(crate) fn handle(&mut self, input: ClientInput) -> Actions {
        use ClientInput::{ConnectionLost, Fired, Response, TransportFailed};
        match (self.state, input) {
            (State::Trying | State::Proceeding, Response(100..=199)) => {
                self.state = State::Proceeding;
                smallvec![Action::Pass]
            }
            (State::Trying | State::Proceeding, Response(_)) => {
                self.state = State::Completed;
                let mut actions: Actions = smallvec![Action::Pass];
                actions.extend(super::linger(self.reliable, Timer::K, T4));
                actions
            }
            (State::Trying, Fired(Timer::E)) => {
                self.interval = doubled(self.interval);
                smallvec![Action::Send, Action::Start(Timer::E, self.interval)]
            }
            (State::Proceeding, Fired(Timer::E)) => {
                smallvec![Action::Send, Action::Start(Timer::E, T2)]
            }
            (
                State::Trying | State::Proceeding,
                Fired(Timer::F) | TransportFailed | ConnectionLost,
            ) => {
                self.state = State::Terminated;
                smallvec![Action::Fail, Action::Terminate]
            }
            (State::Completed, Fired(Timer::K)) => {
                self.state = State::Terminated;
                smallvec![Action::Terminate]
            }
            _ => smallvec![],
        }
    }
}
