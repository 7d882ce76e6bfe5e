//! Signatures against OpenSSH's own: what one side makes the other verifies, and what one refuses the other refuses too.
#![forbid(unsafe_code)]

mod files;
mod forged;
mod lab;

use cocker_image::signature::{AgentError, Passphrase, SignatureError, SigningKey};
use lab::{Lab, MESSAGE, TheirAgent, WHO, allow_others_to_read, nobody, public_path};
use std::fs;
use std::path::{Path, PathBuf};

/// As arguments of `ssh-keygen -t`.
const TYPES: [&[&str]; 5] = [
    &["ed25519"],
    &["ecdsa", "-b", "256"],
    &["ecdsa", "-b", "384"],
    &["ecdsa", "-b", "521"],
    &["rsa", "-b", "3072"],
];

fn allow(lab: &Lab, key: &Path) -> PathBuf {
    lab.write("allowed", format!("{WHO} {}\n", lab.public(key)))
}

#[test]
fn what_one_side_signs_the_other_verifies() {
    let lab = Lab::new();
    for (index, arguments) in TYPES.iter().enumerate() {
        let key = lab.key(&format!("key{index}"), arguments);
        let allowed = allow(&lab, &key);
        let (ours, theirs) = (lab.ours(&key), lab.theirs(&key, "cocker-image"));
        assert!(lab.they_accept(&allowed, MESSAGE, &ours), "{arguments:?}");
        for signature in [&ours, &theirs] {
            let said = lab.we_say(&allowed, MESSAGE, signature);
            assert_eq!(said.expect("it is good"), WHO, "{arguments:?}");
        }
        // Written by one program or the other, they look alike.
        let shape = |armour: &str| armour.lines().map(str::len).collect::<Vec<_>>();
        if index == 0 {
            assert_eq!(ours, theirs, "ed25519 knows no chance");
        } else {
            assert_eq!(shape(&ours)[..3], shape(&theirs)[..3], "{arguments:?}");
        }
    }
}

#[test]
fn another_message_is_refused_by_both() {
    let lab = Lab::new();
    for (index, arguments) in TYPES.iter().enumerate() {
        let key = lab.key(&format!("key{index}"), arguments);
        let allowed = allow(&lab, &key);
        let signature = lab.ours(&key);
        let mut other = MESSAGE.to_vec();
        other[index * 7] ^= 1;
        let longer = [MESSAGE, b"\n"].concat();
        for message in [&other[..], &longer, &MESSAGE[1..], b""] {
            assert!(!lab.they_accept(&allowed, message, &signature));
            let said = lab.we_say(&allowed, message, &signature);
            assert!(matches!(said, Err(SignatureError::Mismatch)), "{said:?}");
        }
    }
}

#[test]
fn a_signature_for_something_else_is_refused_by_both() {
    let lab = Lab::new();
    let key = lab.key("key", &["ed25519"]);
    let allowed = allow(&lab, &key);
    for namespace in ["file", "cocker-image2", "cocker-imag", "Cocker-Image"] {
        let signature = lab.theirs(&key, namespace);
        assert!(!lab.they_accept(&allowed, MESSAGE, &signature));
        match lab.we_say(&allowed, MESSAGE, &signature) {
            Err(SignatureError::OtherNamespace { namespace: said }) => assert_eq!(said, namespace),
            said => panic!("{said:?}"),
        }
    }
}

#[test]
fn a_stranger_is_refused_by_both_and_named_by_his_key() {
    let lab = Lab::new();
    let allowed = allow(&lab, &lab.key("key", &["ed25519"]));
    let stranger = lab.key("stranger", &["ecdsa", "-b", "256"]);
    let signature = lab.theirs(&stranger, "cocker-image");
    assert!(!lab.they_accept(&allowed, MESSAGE, &signature));
    let error = lab.we_say(&allowed, MESSAGE, &signature).unwrap_err();
    let listed = lab
        .command("ssh-keygen")
        .arg("-lf")
        .arg(&stranger)
        .output()
        .expect("it runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let fingerprint = listed.split(' ').nth(1).expect("it stands there");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot accept the signature: the signer is not in `{}` (key {fingerprint})",
            allowed.display()
        )
    );
}

#[test]
fn encrypted_keys_want_their_passphrase() {
    let lab = Lab::new();
    let ciphers = [
        "aes256-ctr",
        "aes128-cbc",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
    ];
    for cipher in ciphers {
        let key = lab.key(
            cipher,
            &["ed25519", "-N", "open sesame", "-Z", cipher, "-a", "4"],
        );
        let allowed = allow(&lab, &key);
        let open = |typed: Option<&str>| {
            let mut asked = Vec::new();
            let opened = SigningKey::open(&key, None, &mut |path| {
                asked.push(path.to_owned());
                typed.map(Passphrase::new)
            });
            assert_eq!(
                asked,
                std::slice::from_ref(&key),
                "asked once, for this key"
            );
            opened
        };
        let signature = open(Some("open sesame"))
            .and_then(|mut key| key.sign(MESSAGE))
            .expect("signed");
        assert!(lab.they_accept(&allowed, MESSAGE, &signature), "{cipher}");
        for wrong in ["open sesame ", "x", ""] {
            let error = open(Some(wrong)).unwrap_err();
            assert!(
                matches!(error, SignatureError::WrongPassphrase { .. }),
                "{cipher}: {error:?}"
            );
        }
        let error = open(None).unwrap_err();
        assert!(
            matches!(error, SignatureError::NoPassphrase { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_private_key_that_others_may_read_is_refused() {
    let lab = Lab::new();
    let key = lab.key("key", &["ed25519"]);
    allow_others_to_read(&key);
    let error = SigningKey::open(&key, None, &mut nobody).unwrap_err();
    assert!(error.to_string().ends_with("(mode 0640)"), "{error}");
    let refused = lab
        .command("ssh-keygen")
        .args(["-Y", "sign", "-n", "file", "-f"])
        .arg(&key)
        .arg(lab.write("message", MESSAGE))
        .output()
        .expect("it runs");
    assert!(!refused.status.success(), "{refused:?}");
}

#[test]
fn what_is_no_key_is_called_that() {
    let lab = Lab::new();
    let open = |path: &Path| SigningKey::open(path, None, &mut nobody).unwrap_err();
    let kept = |name: &str, content: &[u8]| {
        let path = lab.write(name, content);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("it is ours");
        path
    };
    assert!(matches!(
        open(&lab.path("missing")),
        SignatureError::ReadKey { .. }
    ));
    let certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for content in [
        &b""[..],
        b"hello\n",
        &[0xff; 100],
        &[b'x'; 70_000],
        certificate,
    ] {
        let error = open(&kept("no-key", content));
        assert!(matches!(error, SignatureError::NotAKey { .. }), "{error:?}");
    }
    let old = lab.key("old", &["rsa", "-b", "2048", "-m", "PEM"]);
    assert!(matches!(open(&old), SignatureError::OtherFormat { .. }));
    let key = fs::read(lab.key("key", &["ed25519"])).expect("it is there");
    for length in 36..key.len() - 36 {
        let error = open(&kept("cut", &key[..length]));
        assert!(
            matches!(error, SignatureError::DamagedKey { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn weak_keys_neither_sign_nor_verify() {
    let lab = Lab::new();
    let key = lab.key("key", &["rsa", "-b", "1024"]);
    let error = SigningKey::open(&key, None, &mut nobody).unwrap_err();
    assert!(
        matches!(error, SignatureError::KeySize { bits: 1024, .. }),
        "{error:?}"
    );
    let signature = lab.theirs(&key, "cocker-image");
    let error = lab
        .we_say(&allow(&lab, &key), MESSAGE, &signature)
        .unwrap_err();
    assert!(
        matches!(error, SignatureError::SignerKeySize { bits: 1024 }),
        "{error:?}"
    );
}

#[test]
fn the_agent_signs_with_the_keys_it_holds() {
    let lab = Lab::new();
    let agent = TheirAgent::start(&lab);
    let socket = Some(agent.socket.as_path());
    for (index, arguments) in TYPES.iter().enumerate() {
        let key = lab.key(&format!("key{index}"), arguments);
        agent.add(&lab, &key, &[]);
        let allowed = allow(&lab, &key);
        let mut key =
            SigningKey::open(&public_path(&key), socket, &mut nobody).expect("it holds it");
        // The connection lasts.
        for _ in 0..2 {
            let signature = key.sign(MESSAGE).expect("signed");
            assert!(
                lab.they_accept(&allowed, MESSAGE, &signature),
                "{arguments:?}"
            );
            assert!(lab.we_say(&allowed, MESSAGE, &signature).is_ok());
        }
    }
}

#[test]
fn nobody_is_asked_for_the_passphrase_of_a_key_that_the_agent_holds() {
    let lab = Lab::new();
    let agent = TheirAgent::start(&lab);
    let key = lab.key("key", &["ed25519"]);
    agent.add(&lab, &key, &[]);
    lab::succeeds(
        lab.command("ssh-keygen")
            .args(["-q", "-p", "-P", "", "-N", "open sesame", "-a", "4", "-f"])
            .arg(&key),
    );
    let signature = SigningKey::open(&key, Some(&agent.socket), &mut nobody)
        .and_then(|mut key| key.sign(MESSAGE))
        .expect("the agent signs");
    assert!(lab.they_accept(&allow(&lab, &key), MESSAGE, &signature));
    // Without one, it is asked for again: an agent that has gone is no reason to give up.
    let socket = agent.socket.clone();
    drop(agent);
    let error = SigningKey::open(&key, Some(&socket), &mut |_| None).unwrap_err();
    assert!(
        matches!(error, SignatureError::NoPassphrase { .. }),
        "{error:?}"
    );
}

#[test]
fn an_agent_that_cannot_or_may_not_sign_is_named() {
    let lab = Lab::new();
    let agent = TheirAgent::start(&lab);
    let socket = agent.socket.clone();
    let (key, confirmed) = (
        lab.key("key", &["ed25519"]),
        lab.key("confirmed", &["ed25519"]),
    );
    let open = |key: &Path, socket: Option<&Path>| {
        SigningKey::open(&public_path(key), socket, &mut nobody)
    };
    let error = open(&key, None).unwrap_err();
    assert!(matches!(error, SignatureError::NoAgent { .. }), "{error:?}");
    let error = open(&key, Some(&socket)).unwrap_err();
    assert!(
        matches!(error, SignatureError::NotInAgent { .. }),
        "{error:?}"
    );

    // Its user is asked for each signature, and declines.
    agent.add(&lab, &confirmed, &["-c"]);
    let mut opened = open(&confirmed, Some(&socket)).expect("it holds it");
    let error = opened.sign(MESSAGE).unwrap_err();
    assert!(
        matches!(
            error,
            SignatureError::Agent {
                source: AgentError::Refused,
                ..
            }
        ),
        "{error:?}"
    );

    drop(agent);
    let error = opened.sign(MESSAGE).unwrap_err();
    assert!(
        matches!(
            error,
            SignatureError::Agent {
                source: AgentError::Speak(_),
                ..
            }
        ),
        "{error:?}"
    );
    let error = open(&confirmed, Some(&socket)).unwrap_err();
    assert!(
        matches!(
            error,
            SignatureError::Agent {
                source: AgentError::Connect(_),
                ..
            }
        ),
        "{error:?}"
    );
}
