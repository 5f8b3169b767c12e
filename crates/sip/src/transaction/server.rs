//! Non-INVITE server transaction: RFC 3261 figure 8.

use smallvec::smallvec;

use super::{Action, Actions, ServerInput};
use crate::timer::{T1_64, Timer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) state: State,
    reliable: bool,
}

impl Server {
    pub(crate) fn new(reliable: bool) -> Self {
        Self {
            state: State::Trying,
            reliable,
        }
    }

    pub(crate) fn handle(&mut self, input: ServerInput) -> Actions {
        use ServerInput::{Fired, Respond, Retransmission};
        match (self.state, input) {
            (State::Proceeding | State::Completed, Retransmission) => smallvec![Action::Send],
            (State::Trying | State::Proceeding, Respond(100..=199)) => {
                self.state = State::Proceeding;
                smallvec![Action::Send]
            }
            (State::Trying | State::Proceeding, Respond(_)) => {
                self.state = State::Completed;
                let mut actions: Actions = smallvec![Action::Send];
                actions.extend(super::linger(self.reliable, Timer::J, T1_64));
                actions
            }
            (State::Completed, Fired(Timer::J)) => {
                self.state = State::Terminated;
                smallvec![Action::Terminate]
            }
            _ => smallvec![],
        }
    }
}
