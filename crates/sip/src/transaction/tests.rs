//! Each machine beside its figure.

use super::client::Client;
use super::invite_client::{InviteClient, State as InviteClientState};
use super::invite_server::{InviteServer, State as InviteServerState};
use super::server::Server;
use super::{Action, ClientInput, ServerInput};
use crate::timer::{T1, T1_64, T2, T4, TIMER_D, Timer};

#[test]
fn figure_5_refused_invite_is_acknowledged_each_time() {
    let (mut machine, start) = InviteClient::new(false);
    assert_eq!(
        start.as_slice(),
        [
            Action::Send,
            Action::Start(Timer::B, T1_64),
            Action::Start(Timer::A, T1)
        ]
    );
    let again = machine.handle(ClientInput::Fired(Timer::A));
    assert_eq!(
        again.as_slice(),
        [Action::Send, Action::Start(Timer::A, T1 * 2)]
    );
    assert_eq!(
        machine.handle(ClientInput::Response(180)).as_slice(),
        [Action::Pass]
    );
    assert!(
        machine.handle(ClientInput::Fired(Timer::A)).is_empty(),
        "no retransmission in Proceeding"
    );
    let refused = machine.handle(ClientInput::Response(486));
    assert_eq!(
        refused.as_slice(),
        [Action::Pass, Action::Ack, Action::Start(Timer::D, TIMER_D)]
    );
    assert_eq!(
        machine.handle(ClientInput::Response(486)).as_slice(),
        [Action::Ack]
    );
    assert!(machine.handle(ClientInput::Fired(Timer::B)).is_empty());
    assert_eq!(
        machine.handle(ClientInput::Fired(Timer::D)).as_slice(),
        [Action::Terminate]
    );
}

#[test]
fn rfc_6026_every_2xx_is_passed_until_timer_m() {
    let (mut machine, _) = InviteClient::new(true);
    assert_eq!(
        machine.handle(ClientInput::Response(200)).as_slice(),
        [Action::Pass, Action::Start(Timer::M, T1_64)]
    );
    assert_eq!(
        machine.handle(ClientInput::Response(200)).as_slice(),
        [Action::Pass]
    );
    assert!(machine.handle(ClientInput::Response(486)).is_empty());
    assert_eq!(
        machine.handle(ClientInput::Fired(Timer::M)).as_slice(),
        [Action::Terminate]
    );
    assert_eq!(machine.state, InviteClientState::Terminated);
}

#[test]
fn figure_6_retransmissions_slow_down_to_t2() {
    let (mut machine, _) = Client::new(false);
    let intervals = [T1 * 2, T1 * 4, T2, T2];
    for interval in intervals {
        let fired = machine.handle(ClientInput::Fired(Timer::E));
        assert_eq!(
            fired.as_slice(),
            [Action::Send, Action::Start(Timer::E, interval)]
        );
    }
    assert_eq!(
        machine.handle(ClientInput::Response(200)).as_slice(),
        [Action::Pass, Action::Start(Timer::K, T4)]
    );
    assert!(
        machine.handle(ClientInput::Response(200)).is_empty(),
        "a retransmitted response is absorbed"
    );
    assert_eq!(
        machine.handle(ClientInput::Fired(Timer::K)).as_slice(),
        [Action::Terminate]
    );
}

#[test]
fn figure_6_times_out_and_fails() {
    let (mut machine, _) = Client::new(true);
    assert_eq!(
        machine.handle(ClientInput::Fired(Timer::F)).as_slice(),
        [Action::Fail, Action::Terminate]
    );
}

#[test]
fn figure_7_final_answer_is_repeated_until_acknowledged() {
    let (mut machine, _) = InviteServer::new(false);
    assert_eq!(
        machine.handle(ServerInput::Fired(Timer::Trying)).as_slice(),
        [Action::Trying]
    );
    let refused = machine.handle(ServerInput::Respond(486));
    assert_eq!(
        refused.as_slice(),
        [
            Action::Send,
            Action::Start(Timer::H, T1_64),
            Action::Start(Timer::G, T1)
        ]
    );
    let again = machine.handle(ServerInput::Fired(Timer::G));
    assert_eq!(
        again.as_slice(),
        [Action::Send, Action::Start(Timer::G, T1 * 2)]
    );
    assert_eq!(
        machine.handle(ServerInput::Ack).as_slice(),
        [Action::Start(Timer::I, T4)]
    );
    assert!(machine.handle(ServerInput::Fired(Timer::G)).is_empty());
    assert_eq!(
        machine.handle(ServerInput::Fired(Timer::I)).as_slice(),
        [Action::Terminate]
    );
    assert_eq!(machine.state, InviteServerState::Terminated);
}

#[test]
fn rfc_6026_accepted_absorbs_invites_and_passes_acks() {
    let (mut machine, _) = InviteServer::new(false);
    assert_eq!(
        machine.handle(ServerInput::Respond(200)).as_slice(),
        [Action::Send, Action::Start(Timer::L, T1_64)]
    );
    assert!(machine.handle(ServerInput::Retransmission).is_empty());
    assert_eq!(machine.handle(ServerInput::Ack).as_slice(), [Action::Pass]);
    assert_eq!(
        machine.handle(ServerInput::Respond(200)).as_slice(),
        [Action::Send]
    );
    assert!(machine.handle(ServerInput::Respond(486)).is_empty());
}

#[test]
fn figure_8_the_last_response_answers_retransmissions() {
    let mut machine = Server::new(false);
    assert!(machine.handle(ServerInput::Retransmission).is_empty());
    assert_eq!(
        machine.handle(ServerInput::Respond(200)).as_slice(),
        [Action::Send, Action::Start(Timer::J, T1_64)]
    );
    assert_eq!(
        machine.handle(ServerInput::Retransmission).as_slice(),
        [Action::Send]
    );
    assert!(
        machine.handle(ServerInput::Respond(500)).is_empty(),
        "one final answer"
    );
    assert_eq!(
        machine.handle(ServerInput::Fired(Timer::J)).as_slice(),
        [Action::Terminate]
    );
    let mut reliable = Server::new(true);
    assert_eq!(
        reliable.handle(ServerInput::Respond(200)).as_slice(),
        [Action::Send, Action::Terminate]
    );
}
