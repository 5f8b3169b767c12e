//! Strict routers of RFC 2543, which take the next hop from the Request-URI (RFC 3261 §16.4 and
//! §16.6 step 6, §16.12.1).
//!
//! *Invariant*: Request-URI and Route keep their values; only which of them stands where changes.

use bytes::Bytes;

use crate::{Edit, Framing, HeaderName, Limits, Message};

/// What a strict router sends to us, as a loose one would have sent it: our own URI, which stood in the
/// Request-URI, is the first Route value, and the last one is the Request-URI. `None`: there is no Route,
/// or it is no good.
pub fn from_router(request: &Message, limits: &Limits) -> Option<Message> {
    let mut routes = values(request)?;
    let target = routes.pop()?;
    routes.insert(0, own(request));
    rewritten(request, &target.uri, &routes, limits)
}

/// What goes to a strict router: its Route value, which stands first behind `ours` of our own,
/// becomes the Request-URI, and the Request-URI the last Route value. `None`: the next router is a
/// loose one, or there is none.
pub fn to_router(request: &Message, ours: usize, limits: &Limits) -> Option<Message> {
    let next = request.routes().nth(ours)?.ok()?.parse_uri().ok()?;
    if next.is_loose_router() {
        return None;
    }
    let mut routes = values(request)?.split_off(ours);
    let router = routes.remove(0);
    routes.push(own(request));
    rewritten(request, &router.uri, &routes, limits)
}

struct Value {
    uri: String,
    /// With its brackets and parameters.
    text: String,
}

/// The Request-URI as a Route value.
fn own(request: &Message) -> Value {
    let uri = request.request_uri().to_owned();
    let text = format!("<{uri}>");
    Value { uri, text }
}

fn values(request: &Message) -> Option<Vec<Value>> {
    let value = |route: Result<crate::NameAddr<'_>, _>| {
        let route = route.ok()?;
        let text = format!("<{}>{}", route.uri, route.params.as_str());
        let uri = route.uri.to_owned();
        Some(Value { uri, text })
    };
    request.routes().map(value).collect()
}

fn rewritten(request: &Message, uri: &str, routes: &[Value], limits: &Limits) -> Option<Message> {
    let mut edit = Edit::new(request);
    edit.set_request_uri(uri).remove_all(HeaderName::Route);
    for route in routes {
        edit.append_field(HeaderName::Route.as_str(), &route.text);
    }
    let mut out = Vec::new();
    edit.write(&mut out);
    Message::parse(Bytes::from(out), Framing::Datagram, limits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, routes: &str) -> Message {
        let text = format!(
            "BYE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKs\r\nMax-Forwards: 70\r\n\
             {routes}From: <sip:a@x.org>;tag=1\r\nTo: <sip:b@x.org>;tag=2\r\nCall-ID: s\r\n\
             CSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text), Framing::Datagram, &Limits::default()).unwrap()
    }

    fn shape(message: &Message) -> (String, Vec<String>) {
        let routes = message.routes().map(|route| route.unwrap().uri.to_owned());
        (message.request_uri().to_owned(), routes.collect())
    }

    #[test]
    fn a_strict_router_finds_itself_in_the_request_uri() {
        let limits = Limits::default();
        let bye = request(
            "sip:bob@192.0.2.9",
            "Route: <sip:us;lr>, <sip:strict>\r\nRoute: <sip:loose;lr>\r\n",
        );
        let to = to_router(&bye, 1, &limits).unwrap();
        let routes = ["sip:loose;lr", "sip:bob@192.0.2.9"].map(str::to_owned);
        assert_eq!(shape(&to), ("sip:strict".to_owned(), routes.to_vec()));
        // The next one that knows loose routing turns it round again, as we do (§16.4).
        let back = from_router(&to, &limits).unwrap();
        let routes = ["sip:strict", "sip:loose;lr"].map(str::to_owned).to_vec();
        assert_eq!(shape(&back), ("sip:bob@192.0.2.9".to_owned(), routes));
    }

    #[test]
    fn loose_routers_are_left_alone() {
        let limits = Limits::default();
        for routes in [
            "",
            "Route: <sip:us;lr>\r\n",
            "Route: <sip:us;lr>, <sip:p2;lr>\r\n",
        ] {
            assert!(to_router(&request("sip:b@192.0.2.9", routes), 1, &limits).is_none());
        }
        assert!(from_router(&request("sip:us;lr", ""), &limits).is_none());
    }
}
