//! Signatures that nobody made: damaged, cut, grown, put together from others. Both programs refuse them.

use crate::allow;
use crate::lab::{Lab, MESSAGE, TheirAgent, WHO, local, nobody, now, succeeds};
use cocker_image::signature::{AllowedSigners, SignatureError, SigningKey};
use proptest::prelude::*;
use ssh_key::encoding::{Base64Reader, Base64Writer, Encode, Reader, Writer};
use ssh_key::public::{KeyData, SkEcdsaSha2NistP256, SkEd25519};
use ssh_key::sha2::{Digest, Sha256};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, Signature, SshSig};
use std::fs;
use std::path::Path;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";

/// What is inside an armour.
fn blob(armoured: &str) -> Vec<u8> {
    let inside = armoured
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .expect("an armour");
    let base64: String = inside.lines().collect();
    let mut reader = Base64Reader::new(base64.as_bytes()).expect("base64");
    let mut blob = vec![0; reader.remaining_len()];
    reader.read(&mut blob).expect("base64");
    blob
}

/// An armour around anything.
fn armour(blob: &[u8]) -> String {
    armour_of_width(blob, 70)
}

fn armour_of_width(blob: &[u8], width: usize) -> String {
    let mut base64 = vec![0; blob.len() * 2 + 8];
    let mut writer = Base64Writer::new(&mut base64).expect("room");
    writer.write(blob).expect("room");
    let base64 = writer.finish().expect("room").to_owned();
    let mut armoured = BEGIN.to_owned();
    for line in base64.as_bytes().chunks(width) {
        armoured.push_str(std::str::from_utf8(line).expect("ASCII"));
        armoured.push('\n');
    }
    armoured + END
}

#[test]
fn an_armour_is_taken_off_and_put_on_again() {
    let lab = Lab::new();
    let signature = lab.ours(&lab.key("key", &["ed25519"]));
    assert_eq!(armour(&blob(&signature)), signature);
}

#[test]
fn an_armour_of_another_shape_is_read_as_it_is_or_not_at_all() {
    let lab = Lab::new();
    let key = lab.key("key", &["ed25519"]);
    let allowed = allow(&lab, &key);
    let armoured = lab.ours(&key);
    let whole = blob(&armoured);
    for width in 1..120 {
        let said = lab.we_say(&allowed, MESSAGE, &armour_of_width(&whole, width));
        assert_eq!(said.expect("whatever the lines"), WHO);
    }
    assert!(lab.they_accept(&allowed, MESSAGE, &armour_of_width(&whole, 1)));
    let followed = armoured.clone() + "more";
    assert!(lab.they_accept(&allowed, MESSAGE, &followed));
    assert!(lab.we_say(&allowed, MESSAGE, &followed).is_ok());
    // Every fifth byte replaced by what ends lines and more.
    for at in (0..armoured.len()).step_by(5) {
        for replacement in ["", "\n", "\r", "\r\n", "\n\n", " ", "=", "\0", "é"] {
            let odd = format!("{}{replacement}{}", &armoured[..at], &armoured[at + 1..]);
            if lab.we_say(&allowed, MESSAGE, &odd).is_ok() {
                assert!(lab.they_accept(&allowed, MESSAGE, &odd), "{odd:?}");
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let lab = Lab::new();
    for (name, arguments, every) in [
        ("ed25519", &["ed25519"][..], 7),
        ("ecdsa", &["ecdsa", "-b", "256"], 29),
        ("rsa", &["rsa", "-b", "2048"], 61),
    ] {
        let key = lab.key(name, arguments);
        let allowed = allow(&lab, &key);
        let whole = blob(&lab.ours(&key));
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let flipped = armour(&flipped);
            let said = lab.we_say(&allowed, MESSAGE, &flipped);
            assert!(said.is_err(), "{name}: byte {at}: {said:?}");
            if at % every == 0 {
                assert!(
                    !lab.they_accept(&allowed, MESSAGE, &flipped),
                    "{name}: {at}"
                );
            }
        }
    }
}

#[test]
fn what_is_cut_grown_or_lies_about_its_lengths_is_refused() {
    let lab = Lab::new();
    let key = lab.key("key", &["ed25519"]);
    let allowed = allow(&lab, &key);
    let refused = |armoured: &str| {
        let said = lab.we_say(&allowed, MESSAGE, armoured);
        said.expect_err("it is not whole")
    };
    let armoured = lab.ours(&key);
    for length in 0..armoured.len() - 2 {
        refused(&armoured[..length]);
    }
    let whole = blob(&armoured);
    for length in 0..whole.len() {
        refused(&armour(&whole[..length]));
    }
    for extra in [1, 3, 4000] {
        let mut grown = whole.clone();
        grown.resize(whole.len() + extra, 0);
        let grown = armour(&grown);
        refused(&grown);
        assert!(!lab.they_accept(&allowed, MESSAGE, &grown));
    }
    for at in 6..whole.len() - 4 {
        for length in [0, 1, 0xff, 0xffff, 0x7fff_ffff, u32::MAX] {
            let mut lying = whole.clone();
            if lying[at..at + 4] != length.to_be_bytes() {
                lying[at..at + 4].copy_from_slice(&length.to_be_bytes());
                refused(&armour(&lying));
            }
        }
    }
    let error = refused(&(BEGIN.to_owned() + &"A".repeat(10_000_000) + "\n" + END));
    assert!(
        matches!(error, SignatureError::LargeSignature { .. }),
        "{error:?}"
    );
    for text in ["", "hello", "\n", &format!("hello\n{armoured}"), END] {
        let error = refused(text);
        assert!(matches!(error, SignatureError::NotASignature), "{error:?}");
        assert!(!lab.they_accept(&allowed, MESSAGE, text), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), begins in any::<bool>()) {
        let begins = if begins { &b"SSHSIG\0\0\0\x01"[..] } else { b"" };
        let allowed = Path::new("/dev/null");
        let allowed = AllowedSigners::open(allowed, &local).expect("it is empty");
        for armoured in [armour(&[begins, &bytes].concat()), String::from_utf8_lossy(&bytes).into()] {
            prop_assert!(allowed.verify(MESSAGE, &armoured, now()).is_err());
        }
    }
}

#[test]
fn sha_1_is_refused_by_both() {
    let lab = Lab::new();
    let key = lab.key("key", &["rsa", "-b", "2048"]);
    let allowed = allow(&lab, &key);
    let whole = blob(&lab.ours(&key));
    let signature = SshSig::from_pem(lab.ours(&key)).expect("it is one");
    let sha_1 = Signature::new(Algorithm::Rsa { hash: None }, signature.signature_bytes());
    let forged = SshSig::new(
        signature.public_key().clone(),
        "cocker-image",
        HashAlg::Sha512,
        sha_1.expect("any bytes are"),
    );
    let forged = forged
        .and_then(|forged| forged.to_pem(LineEnding::LF))
        .expect("it can be written");
    assert!(
        whole.len() > blob(&forged).len(),
        "ssh-rsa is shorter than rsa-sha2-512"
    );
    assert!(!lab.they_accept(&allowed, MESSAGE, &forged));
    match lab.we_say(&allowed, MESSAGE, &forged) {
        Err(SignatureError::Algorithm { algorithm }) => assert_eq!(algorithm, "ssh-rsa"),
        said => panic!("{said:?}"),
    }
}

#[test]
fn sha_256_inside_is_accepted_by_both() {
    let lab = Lab::new();
    let key = lab.key("key", &["rsa", "-b", "2048"]);
    let allowed = allow(&lab, &key);
    let private = PrivateKey::from_openssh(fs::read(&key).expect("ours")).expect("a key");
    let signature = private.sign("cocker-image", HashAlg::Sha256, MESSAGE);
    let signature = signature
        .and_then(|it| it.to_pem(LineEnding::LF))
        .expect("signed");
    assert!(lab.they_accept(&allowed, MESSAGE, &signature));
    assert!(lab.we_say(&allowed, MESSAGE, &signature).is_ok());
}

#[test]
fn a_reserved_field_is_refused_by_both() {
    let lab = Lab::new();
    let key = lab.key("key", &["ed25519"]);
    let allowed = allow(&lab, &key);
    let private = PrivateKey::from_openssh(fs::read(&key).expect("ours")).expect("a key");
    // The envelope and the object with something in the field, signed as it should be.
    let digest = HashAlg::Sha512.digest(MESSAGE);
    let mut envelope = b"SSHSIG".to_vec();
    let mut object = b"SSHSIG\0\0\0\x01".to_vec();
    let key_blob = private.public_key().to_bytes().expect("a key");
    put(&mut object, &key_blob);
    for into in [&mut envelope, &mut object] {
        put(into, b"cocker-image");
        put(into, b"more");
        put(into, b"sha512");
    }
    put(&mut envelope, &digest);
    let signature = sign_raw(&private, &envelope)
        .encode_vec()
        .expect("it can be written");
    put(&mut object, &signature);
    let forged = armour(&object);
    assert!(!lab.they_accept(&allowed, MESSAGE, &forged));
    let said = lab.we_say(&allowed, MESSAGE, &forged);
    assert!(
        matches!(said, Err(SignatureError::ReservedField)),
        "{said:?}"
    );
}

fn put(into: &mut Vec<u8>, string: &[u8]) {
    into.extend_from_slice(&u32::try_from(string.len()).expect("short").to_be_bytes());
    into.extend_from_slice(string);
}

fn sign_raw(key: &impl ssh_key::SigningKey, data: &[u8]) -> Signature {
    key.try_sign(data).expect("signed")
}

/// What a security key does, with a key that we have.
fn touch(key: KeyData, private: &PrivateKey, application: &str) -> String {
    let data = SshSig::signed_data("cocker-image", HashAlg::Sha512, MESSAGE).expect("a namespace");
    // Touched, for the 23rd time.
    let trailer = [1, 0, 0, 0, 23];
    let mut signed = Sha256::digest(application).to_vec();
    signed.extend_from_slice(&trailer);
    signed.extend_from_slice(&Sha256::digest(data));
    let signature = [sign_raw(private, &signed).as_bytes(), &trailer].concat();
    Signature::new(key.algorithm(), signature)
        .and_then(|signature| SshSig::new(key, "cocker-image", HashAlg::Sha512, signature))
        .and_then(|signature| signature.to_pem(LineEnding::LF))
        .expect("it can be written")
}

#[test]
fn signatures_of_security_keys_are_accepted_by_both() {
    let lab = Lab::new();
    for arguments in [&["ed25519"][..], &["ecdsa", "-b", "256"]] {
        let path = lab.key(arguments[0], arguments);
        let private = PrivateKey::from_openssh(fs::read(&path).expect("ours")).expect("a key");
        let key = match private.public_key().key_data().clone() {
            KeyData::Ed25519(key) => KeyData::from(SkEd25519::new(key, "ssh:")),
            KeyData::Ecdsa(ssh_key::public::EcdsaPublicKey::NistP256(point)) => {
                KeyData::from(SkEcdsaSha2NistP256::new(point, "ssh:"))
            }
            other => panic!("{other:?}"),
        };
        let public = PublicKey::from(key.clone()).to_openssh().expect("a key");
        let allowed = lab.write("allowed", format!("{WHO} {public}\n"));
        let signature = touch(key.clone(), &private, "ssh:");
        assert!(lab.they_accept(&allowed, MESSAGE, &signature), "{public}");
        assert_eq!(
            lab.we_say(&allowed, MESSAGE, &signature)
                .expect("it is good"),
            WHO
        );
        let other = touch(key, &private, "ssh:elsewhere");
        assert!(!lab.they_accept(&allowed, MESSAGE, &other));
        let said = lab.we_say(&allowed, MESSAGE, &other);
        assert!(matches!(said, Err(SignatureError::Mismatch)), "{said:?}");
    }
}

#[test]
fn a_certificate_is_called_that() {
    let lab = Lab::new();
    let (authority, key) = (
        lab.key("authority", &["ed25519"]),
        lab.key("key", &["ed25519"]),
    );
    succeeds(
        lab.command("ssh-keygen")
            .args(["-q", "-I", "test", "-n", WHO, "-s"])
            .arg(&authority)
            .arg(lab.path("key.pub")),
    );
    let agent = TheirAgent::start(&lab);
    agent.add(&lab, &key, &[]);
    let mut command = lab.command("ssh-keygen");
    command
        .env("SSH_AUTH_SOCK", &agent.socket)
        .args(["-Y", "sign", "-n", "cocker-image", "-f"])
        .arg(lab.path("key-cert.pub"));
    let signed = crate::lab::feed(&mut command, MESSAGE);
    assert!(signed.status.success(), "{signed:?}");
    let signature = String::from_utf8(signed.stdout).expect("ASCII");
    let error = SigningKey::open(&lab.path("key-cert.pub"), Some(&agent.socket), &mut nobody);
    match error.map(drop) {
        Err(SignatureError::KeyType { algorithm, .. }) => {
            assert_eq!(algorithm, "ssh-ed25519-cert-v01@openssh.com");
        }
        said => panic!("{said:?}"),
    }
    let line = format!("{WHO} cert-authority {}\n", lab.public(&authority));
    let allowed = lab.write("allowed", line);
    assert!(lab.they_accept(&allowed, MESSAGE, &signature));
    let said = lab.we_say(&allowed, MESSAGE, &signature);
    assert!(matches!(said, Err(SignatureError::Certificate)), "{said:?}");
}
