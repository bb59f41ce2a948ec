//! The authority of a cluster, and the certificates and keys of its programs.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use crate::Error;
use crate::names::{NODE_ADDRESS, NODE_NAME};

/// The first address of the range of services: that of the API server.
const SERVICE_ADDRESS: &str = "10.96.0.1";

/// A certificate and its key, PEM.
pub(crate) struct Certificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Names of the certificates, which are those of their files.
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) admin: Certificate,
    pub(crate) controller_manager: Certificate,
    pub(crate) scheduler: Certificate,
    pub(crate) kubelet: Certificate,
}

/// Makes an authority and all certificates, and writes to `folder` what programs read from files.
pub(crate) fn make(folder: &Path) -> Result<Certificates, Error> {
    let authority = Authority::new()?;
    let write = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(Error::file("cannot write", &path))
    };
    let write_both = |name: &str, made: &Certificate| {
        write(&format!("{name}.crt"), &made.certificate)?;
        write(&format!("{name}.key"), &made.key)
    };
    write("ca.crt", &authority.0.pem())?;
    write("ca.key", &authority.0.key().serialize_pem())?;
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        SERVICE_ADDRESS,
        NODE_ADDRESS,
    ];
    write_both("apiserver", &authority.server("kube-apiserver", &names)?)?;
    write_both("kubelet-server", &authority.server(NODE_NAME, &[NODE_NAME, NODE_ADDRESS, "127.0.0.1"])?)?;
    write_both(
        "apiserver-kubelet",
        &authority.client("kube-apiserver-kubelet-client", Some("system:masters"))?,
    )?;
    let tokens = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    write("service-accounts.key", &tokens.serialize_pem())?;
    write("service-accounts.pub", &tokens.public_key_pem())?;
    Ok(Certificates {
        authority: authority.0.pem(),
        admin: authority.client("admin", Some("system:masters"))?,
        controller_manager: authority.client("system:kube-controller-manager", None)?,
        scheduler: authority.client("system:kube-scheduler", None)?,
        kubelet: authority.client(&format!("system:node:{NODE_NAME}"), Some("system:nodes"))?,
    })
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "slipway-test-cluster");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self(CertifiedIssuer::self_signed(params, key)?))
    }

    /// A certificate for a server, with its DNS names and addresses.
    fn server(&self, name: &str, addresses: &[&str]) -> Result<Certificate, Error> {
        let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
        let mut params = CertificateParams::new(addresses)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, name, None)
    }

    /// A certificate for a client: Kubernetes reads the user from the common name and the group from the
    /// organization.
    fn client(&self, user: &str, group: Option<&str>) -> Result<Certificate, Error> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, user, group)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        group: Option<&str>,
    ) -> Result<Certificate, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let signed = params.signed_by(&key, &self.0)?;
        Ok(Certificate { certificate: signed.pem(), key: key.serialize_pem() })
    }
}
