//! One order, from the account to the certificate on the disk.
//!
//! *Invariant*: a challenge is answered for as long as its order is under way, no longer.

use super::{AcmeError, Renewal, account};
use instant_acme::{
    AuthorizationHandle, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use sidetone_transport::tls::{CertificateSummary, Challenge};
use std::time::Duration;

/// How long the authority may take for one step.
const STEP: Duration = Duration::from_secs(120);
const UNKNOWN_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

impl Renewal {
    pub(super) async fn order(&self) -> Result<CertificateSummary, AcmeError> {
        let account = account::open(&self.account, &self.client, &self.directory, &self.contact);
        let account = account.await?;
        let identifiers: Vec<Identifier> =
            self.names.iter().cloned().map(Identifier::Dns).collect();
        let order = account.new_order(&NewOrder::new(&identifiers)).await;
        let mut order = order.inspect_err(|error| {
            if is_unknown(error) {
                account::forget(&self.account);
            }
        })?;
        let patience = RetryPolicy::default().timeout(STEP);
        let answers = self.answer(&mut order).await?;
        let ready = order.poll_ready(&patience).await;
        drop(answers);
        if !matches!(ready, Ok(OrderStatus::Ready)) {
            let reason = why_not(&mut order).await;
            return Err(match (reason, ready) {
                (Some(reason), _) => AcmeError::Refused(reason),
                (None, Err(error)) => error.into(),
                (None, Ok(status)) => AcmeError::Refused(format!("the order is {status:?}")),
            });
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&patience).await?;
        Ok(self.tls.install(&chain, &key, &self.names)?)
    }

    /// Answers what the authority asks, as long as the returned values live.
    async fn answer(&self, order: &mut Order) -> Result<Vec<Challenge>, AcmeError> {
        let mut answers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let authorization = authorization?;
            // One that is valid from an earlier order needs no new answer (RFC 8555 §7.4).
            if authorization.status == AuthorizationStatus::Pending {
                answers.push(self.answer_one(authorization).await?);
            }
        }
        Ok(answers)
    }

    async fn answer_one(
        &self,
        mut authorization: AuthorizationHandle<'_>,
    ) -> Result<Challenge, AcmeError> {
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(AcmeError::Refused(format!(
                "{name}: the authority offers no tls-alpn-01"
            )));
        };
        let digest = challenge.key_authorization().digest();
        let digest: [u8; 32] = digest.as_ref().try_into().map_err(|_| Error::Crypto)?;
        let answer = self.tls.answer_challenge(&name, &digest)?;
        challenge.set_ready().await?;
        Ok(answer)
    }
}

fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(UNKNOWN_ACCOUNT))
}

/// What the authority says about the names that it did not validate.
async fn why_not(order: &mut Order) -> Option<String> {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let errors = state
            .challenges
            .iter()
            .filter_map(|challenge| challenge.error.as_ref());
        reasons.extend(errors.map(|error| format!("{name}: {error}")));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
