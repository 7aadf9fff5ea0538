//! `broker = "mqtts://…"`, or the `[broker]` table with more, in the gateway's configuration.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rumqttc::{MqttOptions, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use url::Url;

/// A broker that the farm already runs. The files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExternalConfig {
    /// `mqtt://` or `mqtts://`, perhaps a user, a host, and a port when it is not 1883 or 8883.
    pub url: String,
    /// The authorities that the broker's certificate may come from; those of the system when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The gateway's certificate, with its chain, where the broker wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The user, when the address names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// A file with the password in its first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The client id, which holds the gateway's session at the broker; `tilth-FARM-GATEWAY` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// The table, as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: String,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    client_id: Option<String>,
}

impl<'de> Deserialize<'de> for ExternalConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ExternalConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address like \"mqtts://user@host:8883\", or a table with a url")
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<ExternalConfig, E> {
                Ok(ExternalConfig::at(url))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExternalConfig, A::Error> {
                let Table { url, ca, certificate, key, username, password_file, client_id } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ExternalConfig { url, ca, certificate, key, username, password_file, client_id })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl ExternalConfig {
    /// A broker of which only the address is known.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ca: None,
            certificate: None,
            key: None,
            username: None,
            password_file: None,
            client_id: None,
        }
    }

    /// What is wrong with the values: key (below `broker.`), value, what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = Vec::new();
        let address = "an address like mqtts://user@host:8883, with mqtt or mqtts, a host and no path";
        match Url::parse(&self.url) {
            Ok(url)
                if matches!(url.scheme(), "mqtt" | "mqtts") && url.host_str().is_some() && url.path().len() <= 1 =>
            {
                let files = self.ca.is_some() || self.certificate.is_some();
                if url.scheme() == "mqtt" && files {
                    wrong.push(("url", format!("{:?}", shown(&url)), "mqtts://, which ca and certificate are for"));
                }
                if !url.username().is_empty() && self.username.is_some() {
                    wrong.push(("username", format!("{:?}", self.username), "absent beside a user in url"));
                }
                if url.password().is_some() {
                    wrong.push(("url", format!("{:?}", shown(&url)), "without a password (password_file is for it)"));
                }
            }
            Ok(url) => wrong.push(("url", format!("{:?}", shown(&url)), address)),
            Err(_) => wrong.push(("url", format!("{:?}", self.url), address)),
        }
        if self.certificate.is_some() != self.key.is_some() {
            wrong.push(("certificate", format!("{:?}", self.certificate), "there together with broker.key"));
        }
        if self.certificate.is_some() && self.ca.is_none() {
            wrong.push(("certificate", format!("{:?}", self.certificate), "of use without broker.ca"));
        }
        if self.client_id.as_deref().is_some_and(|id| id.is_empty() || id.len() > 128) {
            wrong.push(("client_id", format!("{:?}", self.client_id), "of 1 to 128 bytes"));
        }
        wrong
    }

    /// What is wrong with the files, a line each.
    #[must_use]
    pub fn check_files(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (key, path) in [("ca", &self.ca), ("certificate", &self.certificate)] {
            let Some(path) = path else { continue };
            let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            match certificates {
                Ok(certificates) if !certificates.is_empty() => {}
                Ok(_) => wrong.push(of_file(key, path, &"no certificate in it")),
                Err(error) => wrong.push(of_file(key, path, &error)),
            }
        }
        if let Some(path) = &self.key
            && let Err(error) = PrivateKeyDer::from_pem_file(path)
        {
            wrong.push(of_file("key", path, &error));
        }
        wrong.extend(self.password_file.as_ref().and_then(|path| read("password_file", path).err()));
        wrong
    }

    /// The same for the MQTT client. `client_id` is for when there is none in the configuration.
    ///
    /// # Errors
    /// Names the key and the file that cannot be read.
    pub fn options(&self, client_id: &str) -> Result<MqttOptions, String> {
        let url = Url::parse(&self.url).map_err(|error| format!("broker.url = {:?}: {error}", self.url))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let tls = url.scheme() == "mqtts";
        let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
        let mut options = MqttOptions::new(self.client_id.as_deref().unwrap_or(client_id), host, port);
        let user = self.username.as_deref().unwrap_or(url.username());
        let password = match &self.password_file {
            Some(path) => {
                let text = read("password_file", path)?;
                String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
            }
            None => String::new(),
        };
        if !user.is_empty() {
            options.set_credentials(user, password);
        }
        if tls {
            let client_auth = match (&self.certificate, &self.key) {
                (Some(certificate), Some(key)) => Some((read("certificate", certificate)?, read("key", key)?)),
                _ => None,
            };
            let tls = match &self.ca {
                Some(ca) => TlsConfiguration::Simple { ca: read("ca", ca)?, alpn: None, client_auth },
                None if client_auth.is_some() => {
                    return Err("broker.certificate is of use only with broker.ca".to_owned());
                }
                None => TlsConfiguration::default(),
            };
            options.set_transport(Transport::tls_with_config(tls));
        }
        Ok(options)
    }
}

/// An address without a password that may be in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() && url.set_password(Some("…")).is_err() {
        return url.scheme().to_owned();
    }
    url.to_string()
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| of_file(key, path, &error))
}

fn of_file(key: &str, path: &Path, reason: &dyn fmt::Display) -> String {
    format!("broker.{key} = {path:?}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        broker: ExternalConfig,
    }

    #[test]
    fn an_address_alone_is_enough_and_a_table_says_more() {
        let File { broker } = toml::from_str("broker = \"mqtt://farm@broker.lan\"").unwrap();
        assert_eq!(broker, ExternalConfig::at("mqtt://farm@broker.lan"));
        assert!(broker.check().is_empty());
        let options = broker.options("tilth-f-g").unwrap();
        assert_eq!(
            (options.broker_address(), options.client_id()),
            (("broker.lan".to_owned(), 1883), "tilth-f-g".to_owned())
        );
        assert_eq!(options.credentials().unwrap().username, "farm");
        let File { broker } =
            toml::from_str("[broker]\nurl = \"mqtts://[::1]:9000\"\nclient_id = \"me\"\nca = \"none.pem\"").unwrap();
        assert!(broker.check().is_empty());
        let error = broker.options("other").unwrap_err();
        assert!(error.contains("broker.ca = \"none.pem\""), "{error}");
    }

    #[test]
    fn every_mistake_is_named() {
        let error = toml::from_str::<File>("[broker]\nurl = \"mqtt://x\"\ncolour = 1").unwrap_err().to_string();
        assert!(error.contains("colour"), "{error}");
        let error = toml::from_str::<File>("broker = 5").unwrap_err().to_string();
        assert!(error.contains("an address like"), "{error}");
        for (url, key) in [
            ("http://x", "url"),
            ("mqtt://", "url"),
            ("mqtt://x/y", "url"),
            ("no", "url"),
            ("mqtt://a:secret@x", "url"),
        ] {
            let wrong = ExternalConfig::at(url).check();
            assert_eq!(wrong.first().map(|wrong| wrong.0), Some(key), "{url}");
            assert!(!format!("{wrong:?}").contains("secret"), "{wrong:?}");
        }
        let half = ExternalConfig { certificate: Some("a.pem".into()), ..ExternalConfig::at("mqtts://x") };
        assert_eq!(half.check().first().map(|wrong| wrong.0), Some("certificate"));
    }
}
