// The page's half of the browser phone.
import { Inviter, Messager, Registerer, SessionState, UserAgent } from "sip.js";

let agent, registerer, session;

const uri = text => UserAgent.makeURI(text);
const audio = { sessionDescriptionHandlerOptions: { constraints: { audio: true, video: false } } };

function follow(next, direction) {
  session = next;
  next.stateChange.addListener(state => {
    window.tell({ event: "call", direction, state, peer: next.remoteIdentity.uri.toString() });
    if (state === SessionState.Established) listen(next.sessionDescriptionHandler.remoteMediaStream);
  });
}

// Chromium decodes nothing that nobody plays.
function listen(stream) {
  const player = document.createElement("audio");
  player.autoplay = true;
  player.srcObject = stream;
  document.body.append(player);
}

const delegate = {
  onInvite(invitation) {
    follow(invitation, "in");
    window.tell({ event: "ringing", peer: invitation.remoteIdentity.uri.toString() });
    invitation.accept(audio);
  },
  onMessage(message) {
    window.tell({
      event: "message",
      peer: message.request.from.uri.toString(),
      text: message.request.body,
    });
    message.accept();
  },
};

window.phone = {
  async register({ address, user, password, socket }) {
    agent = new UserAgent({
      uri: uri(`sip:${address}`),
      authorizationUsername: user,
      authorizationPassword: password,
      transportOptions: { server: socket },
      viaHost: "browser.invalid",
      logLevel: "warn",
      sessionDescriptionHandlerFactoryOptions: {
        peerConnectionConfiguration: { iceServers: [] },
        iceGatheringTimeout: 1000,
      },
      delegate,
    });
    await agent.start();
    registerer = new Registerer(agent, { expires: 300 });
    await new Promise((done, failed) => {
      registerer.stateChange.addListener(state => state === "Registered" && done());
      const onReject = answer => failed(new Error(`refused: ${answer.message.statusCode}`));
      registerer.register({ requestDelegate: { onReject } });
    });
    return "registered";
  },
  async unregister() {
    await new Promise(done => {
      registerer.stateChange.addListener(state => state === "Unregistered" && done());
      registerer.unregister();
    });
    await agent.stop();
  },
  async call({ to }) {
    const inviter = new Inviter(agent, uri(to), audio);
    follow(inviter, "out");
    await inviter.invite({
      requestDelegate: {
        onProgress: answer => window.tell({ event: "progress", status: answer.message.statusCode }),
        onReject: answer => window.tell({ event: "rejected", status: answer.message.statusCode }),
      },
    });
  },
  async hangUp() {
    await session.bye();
  },
  async message({ to, text }) {
    await new Promise((done, failed) => {
      new Messager(agent, uri(to), text).message({
        requestDelegate: {
          onAccept: done,
          onReject: answer => failed(new Error(`refused: ${answer.message.statusCode}`)),
        },
      });
    });
  },
  async packets() {
    const reports = await session.sessionDescriptionHandler.peerConnection.getStats();
    let received = 0;
    reports.forEach(report => {
      if (report.type === "inbound-rtp") received += report.packetsReceived;
    });
    return received;
  },
};
