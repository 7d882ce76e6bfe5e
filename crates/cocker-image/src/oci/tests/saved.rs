//! `docker save` archives of all ages.

use super::*;

/// An archive as podman writes it: layers called after their digests.
pub(super) fn saved(sample: &Sample, tags: Value) -> Files {
    let mut files = Files::default();
    let config = sample.config.to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let names: Vec<String> = sample
        .layers
        .iter()
        .map(|layer| format!("{}.tar", Digest::of(layer).hex()))
        .collect();
    for (name, layer) in names.iter().zip(&sample.layers) {
        files.put(name, layer.as_slice());
    }
    files.put(&config_name, config);
    let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]);
    files.put("manifest.json", manifest.to_string());
    files
}

fn choose(tar: &Tar, reference: Option<&str>) -> Result<Chosen, OciError> {
    tar.recognise()?.expect("an image").choose(reference)
}

#[test]
fn layers_called_after_their_digests_are_found() {
    let tar = saved(&Sample::new(), json!(["calvin/web:1", "web:latest"])).archive();
    let image = tar.recognise().unwrap().unwrap();
    assert_eq!(image.references(), ["calvin/web:1", "web:latest"]);
    let chosen = image.choose(None).unwrap();
    assert_eq!(chosen.reference(), Some("calvin/web:1"));
    assert_eq!(chosen.layers()[1].created_by(), Some("ADD b"));
    assert_eq!(
        image.choose(Some("web")).unwrap().reference(),
        Some("web:latest")
    );
    assert_refused(
        image.choose(Some("other")),
        "among `calvin/web:1`, `web:latest`",
    );
}

#[test]
fn an_image_without_tags_has_no_name() {
    let tar = saved(&Sample::new(), Value::Null).archive();
    let chosen = choose(&tar, None).unwrap();
    assert!(chosen.reference().is_none() && chosen.suggested_name().is_none());
}

#[test]
fn of_old_the_same_layer_was_a_link_to_another_folder() {
    let sample = Sample::of(vec![layer(&[("a", b"1")]), layer(&[("a", b"1")])]);
    let config = sample.config.to_string();
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let mut tar = Tar::default();
    for id in [&one, &two] {
        tar.entry(&format!("{id}/"), EntryType::Directory, "", b"");
        tar.file(&format!("{id}/VERSION"), b"1.0")
            .file(&format!("{id}/json"), b"{}");
    }
    tar.file(&format!("{one}/layer.tar"), &sample.layers[0]);
    let target = format!("../{one}/layer.tar");
    tar.entry(
        &format!("{two}/layer.tar"),
        EntryType::Symlink,
        &target,
        b"",
    );
    tar.file(&config_name, config.as_bytes());
    let layers = [format!("{one}/layer.tar"), format!("{two}/layer.tar")];
    let manifest = json!([{ "Config": config_name, "RepoTags": null, "Layers": layers }]);
    tar.file("manifest.json", manifest.to_string().as_bytes())
        .file("repositories", b"{}");
    let chosen = choose(&tar, None).unwrap();
    assert_eq!(chosen.layers()[0].size(), chosen.layers()[1].size());
}

#[test]
fn an_archive_that_is_a_layout_too_is_read_as_one() {
    let sample = Sample::new().named("3.19");
    let mut files = sample.files();
    let blob = |text: &[u8]| format!("blobs/sha256/{}", Digest::of(text).hex());
    let layers: Vec<_> = sample.layers.iter().map(|layer| blob(layer)).collect();
    let config = blob(sample.config.to_string().as_bytes());
    let manifest = json!([{ "Config": config, "RepoTags": ["alpine:3.19"], "Layers": layers }]);
    files.put("manifest.json", manifest.to_string());
    let chosen = choose(&files.archive(), None).unwrap();
    assert!(chosen.manifest().is_some());
    // Without an entry in the index, what docker itself reads is read.
    files.index(&[]);
    let chosen = choose(&files.archive(), None).unwrap();
    assert_eq!(chosen.reference(), Some("alpine:3.19"));
}

#[test]
fn several_images_must_be_told_apart() {
    let mut files = saved(&Sample::new(), json!(["a:1"]));
    let other = saved(&Sample::of(vec![layer(&[("c", b"")])]), json!(["b:1"]));
    let entries = |files: &Files| -> Vec<Value> {
        serde_json::from_slice(&files.0["manifest.json"]).unwrap()
    };
    let both = [entries(&files), entries(&other)].concat();
    files.0.extend(other.0);
    files.put("manifest.json", json!(both).to_string());
    let tar = files.archive();
    assert_refused(choose(&tar, None), "there are `a:1`, `b:1`");
    assert_eq!(choose(&tar, Some("b:1")).unwrap().layers().len(), 1);
}

#[test]
fn a_config_with_another_digest_is_refused() {
    let mut files = saved(&Sample::new(), Value::Null);
    let name = files
        .0
        .keys()
        .find(|name| name.ends_with(".json") && name.len() > 60)
        .unwrap()
        .clone();
    files.0.get_mut(&name).unwrap().push(b' ');
    assert_refused(choose(&files.archive(), None), "its content has digest");
}

#[test]
fn names_that_lead_outside_are_not_there() {
    for name in ["../../etc/passwd", "/etc/passwd", "", ".", "a\0b"] {
        let manifest = json!([{ "Config": name, "RepoTags": null, "Layers": null }]);
        let mut tar = Tar::default();
        tar.file("manifest.json", manifest.to_string().as_bytes());
        assert_refused(choose(&tar, None), "cannot find `");
    }
}

#[test]
fn archives_from_before_manifests_are_refused() {
    let mut tar = Tar::default();
    tar.file("1/json", b"{}")
        .file("1/layer.tar", &layer(&[]))
        .file("repositories", b"{}");
    assert_refused(tar.recognise(), "cannot find `manifest.json`");
}

#[test]
fn a_manifest_of_many_images_is_refused() {
    let one = json!({ "Config": "a", "RepoTags": null, "Layers": null });
    let mut tar = Tar::default();
    tar.file(
        "manifest.json",
        json!(vec![one; 251]).to_string().as_bytes(),
    );
    assert_refused(tar.recognise(), "more than 250 entries");
}
