//! HTTP to the authority: one connection a request, there are few of them.
//!
//! *Invariant*: only `https://` is spoken, to a peer whose certificate was checked; an answer
//! has a bound in size and time.

use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use sidetone_transport::tls::ClientTls;
use std::error::Error as StdError;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const BODY_BYTES_MAX: usize = 256 * 1024;
const REQUEST: Duration = Duration::from_secs(30);

type Bytes = bytes::Bytes;
type Cause = Box<dyn StdError + Send + Sync>;

pub(super) struct Https(TlsConnector);

impl Https {
    pub(super) fn new(trust: &ClientTls) -> Box<Self> {
        Box::new(Self(TlsConnector::from(trust.config())))
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let exchange = timeout(REQUEST, Box::pin(exchange(connector, request)));
            let answer = exchange.await.map_err(Cause::from).and_then(|done| done);
            match answer {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = Box::new(body);
                    Ok(BytesResponse { parts, body })
                }
                Err(cause) => Err(Error::Other(format!("{host}: {cause}").into())),
            }
        })
    }
}

async fn exchange(
    connector: TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Bytes>, Cause> {
    let uri = request.uri().clone();
    let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{uri} is no https:// address").into());
    };
    let host = authority.host().trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(443))).await?;
    let stream = connector.connect(name, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // HTTP/1.1 names the path only where it speaks to the origin (RFC 9112 §3.2.1).
    *request.uri_mut() = uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .parse()?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let answer = answer.await;
    connection.abort();
    answer
}
