//! Certificates for tests: an authority of one's own, and what it signs.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

/// Signs certificates.
pub struct TestAuthority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct TestCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl TestAuthority {
    /// An authority that nobody knows yet.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name or an address.
    pub fn issue(&self, name: &str) -> TestCertificate {
        self.sign(CertificateParams::new(vec![name.to_owned()]).expect("a name"))
    }

    /// The same, which ends with the beginning of a day: year, month, day.
    pub fn issue_until(&self, name: &str, (year, month, day): (i32, u8, u8)) -> TestCertificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, month, day);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> TestCertificate {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        TestCertificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
