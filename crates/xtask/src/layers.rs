//! The layers of docs/ARCHITECTURE.md, as law.
//!
//! *Invariant:* a crate imports only lower layers, and of those only the ones listed here;
//! siblings never import each other.

use crate::tree::Tree;
use toml::{Table, Value};

/// Layer of the crates that only build and test the others.
const DEV: u8 = u8::MAX;

struct Crate {
    layer: u8,
    name: &'static str,
    may_import: &'static [&'static str],
}

const fn at(layer: u8, name: &'static str, may_import: &'static [&'static str]) -> Crate {
    Crate {
        layer,
        name,
        may_import,
    }
}

/// A crate that is not in this table may not exist; one that is need not exist yet.
const LAYERS: &[Crate] = &[
    at(0, "model", &[]),
    at(1, "sip", &[]),
    at(1, "sdp", &[]),
    at(1, "rtp", &[]),
    at(1, "codec", &[]),
    at(1, "xmpp", &[]),
    at(1, "mail", &[]),
    at(2, "conversation", &["model"]),
    at(2, "media", &["model", "sdp", "rtp", "codec"]),
    at(3, "transport", &[]),
    at(3, "store", &["model"]),
    at(3, "cluster", &["model"]),
    at(3, "recording", &["model"]),
    at(
        4,
        "services",
        &["model", "sip", "conversation", "store", "cluster"],
    ),
    at(4, "gateway-xmpp", &["model", "xmpp", "transport"]),
    at(4, "gateway-mail", &["model", "mail", "transport"]),
    at(
        5,
        "engine",
        &[
            "model",
            "sip",
            "sdp",
            "conversation",
            "media",
            "transport",
            "store",
            "cluster",
            "recording",
            "services",
        ],
    ),
    at(6, "web", &["model", "store", "services", "engine"]),
    at(7, "sidetone", ALL),
    at(
        DEV,
        "sim",
        &[
            "model",
            "sip",
            "sdp",
            "rtp",
            "codec",
            "xmpp",
            "mail",
            "conversation",
            "media",
            "transport",
            "store",
            "cluster",
            "recording",
            "services",
            "engine",
        ],
    ),
    at(DEV, "sip-fuzz", &["sip"]),
    at(DEV, "xtask", &[]),
    at(DEV, "tests", ALL),
];

const ALL: &[&str] = &[
    "model",
    "sip",
    "sdp",
    "rtp",
    "codec",
    "xmpp",
    "mail",
    "conversation",
    "media",
    "transport",
    "store",
    "cluster",
    "recording",
    "services",
    "gateway-xmpp",
    "gateway-mail",
    "engine",
    "web",
];

/// What tests may use beside their own layer: the simulated world, and `rsip` as an oracle.
const DEV_ONLY: &[&str] = &["sim", "rsip"];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .ending("Cargo.toml")
        .filter(|(path, _)| *path != "Cargo.toml")
    {
        match text.parse::<Table>() {
            Ok(manifest) => findings.extend(check_manifest(path, &manifest)),
            Err(error) => findings.push(format!("{path}: not TOML: {}", error.message())),
        }
    }
    findings
}

fn check_manifest(path: &str, manifest: &Table) -> Vec<String> {
    let mut findings = Vec::new();
    let name = short_name(
        manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Value::as_str)
            .unwrap_or_default(),
    );
    let Some(this) = LAYERS.iter().find(|known| known.name == name) else {
        return vec![format!(
            "{path}: crate `{name}` is not in the layer table (crates/xtask/src/layers.rs)"
        )];
    };
    if !has_workspace_lints(manifest) {
        findings.push(format!("{path}: `[lints] workspace = true` is missing"));
    }
    for table in dependency_tables(manifest, "dependencies")
        .into_iter()
        .chain(dependency_tables(manifest, "build-dependencies"))
    {
        findings.extend(
            table
                .iter()
                .filter_map(|(key, value)| judge(path, this, dependency_name(key, value), false)),
        );
    }
    for table in dependency_tables(manifest, "dev-dependencies") {
        findings.extend(
            table
                .iter()
                .filter_map(|(key, value)| judge(path, this, dependency_name(key, value), true)),
        );
    }
    findings
}

/// A manifest that is a workspace of its own (cargo-fuzz makes such) cannot inherit lints.
fn has_workspace_lints(manifest: &Table) -> bool {
    let lints = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"));
    manifest.contains_key("workspace") || lints.and_then(Value::as_bool) == Some(true)
}

/// The named table at the top and under every `[target.'…']`.
fn dependency_tables<'m>(manifest: &'m Table, name: &str) -> Vec<&'m Table> {
    let targets = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(targets)
        .filter_map(|table| table.get(name)?.as_table())
        .collect()
}

/// A renamed dependency counts by its real name.
fn dependency_name<'m>(key: &'m str, value: &'m Value) -> &'m str {
    value.get("package").and_then(Value::as_str).unwrap_or(key)
}

fn judge(path: &str, this: &Crate, dependency: &str, for_tests: bool) -> Option<String> {
    if for_tests && DEV_ONLY.contains(&short_name(dependency)) {
        return None;
    }
    if dependency == "rsip" {
        return Some(format!(
            "{path}: `rsip` is an oracle for tests; it may only be a dev-dependency"
        ));
    }
    if !is_ours(dependency) {
        return None;
    }
    let imported = LAYERS
        .iter()
        .find(|known| known.name == short_name(dependency));
    let lower = imported.is_some_and(|imported| imported.layer < this.layer);
    let listed = this.may_import.contains(&short_name(dependency));
    if lower && listed {
        return None;
    }
    let own = for_tests && short_name(dependency) == this.name;
    (!own).then(|| format!("{path}: `{}` may not import `{dependency}`", this.name))
}

fn is_ours(dependency: &str) -> bool {
    dependency.starts_with("sidetone") || dependency == "xtask"
}

fn short_name(package: &str) -> &str {
    package.strip_prefix("sidetone-").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, rest: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}");
        check(&Tree::of(&[("crates/x/Cargo.toml", &manifest)]))
    }

    #[test]
    fn a_listed_lower_layer_passes() {
        assert!(
            findings(
                "sidetone-store",
                "[dependencies]\nsidetone-model.workspace = true"
            )
            .is_empty()
        );
    }

    #[test]
    fn a_sibling_a_higher_layer_and_an_unlisted_one_fail() {
        assert_eq!(
            findings(
                "sidetone-sip",
                "[dependencies]\nsidetone-model.workspace = true"
            )
            .len(),
            1
        );
        assert_eq!(
            findings(
                "sidetone-store",
                "[dependencies]\nsidetone-cluster.workspace = true"
            )
            .len(),
            1
        );
        assert_eq!(
            findings(
                "sidetone-services",
                "[dependencies]\nsidetone-engine.workspace = true"
            )
            .len(),
            1
        );
        assert_eq!(
            findings(
                "sidetone-web",
                "[target.'cfg(unix)'.dependencies]\nsidetone-sip.workspace = true"
            )
            .len(),
            1
        );
    }

    #[test]
    fn renaming_does_not_hide_an_import() {
        assert_eq!(
            findings(
                "sidetone-sip",
                "[dependencies]\nm = { package = \"sidetone-model\", path = \"../model\" }"
            )
            .len(),
            1
        );
    }

    #[test]
    fn rsip_and_the_simulated_world_are_for_tests_only() {
        assert!(
            findings(
                "sidetone-sip",
                "[dev-dependencies]\nrsip.workspace = true\nsidetone-sim.workspace = true"
            )
            .is_empty()
        );
        assert_eq!(
            findings(
                "sidetone-sip",
                "[dependencies]\nrsip.workspace = true\nsidetone-sim.workspace = true"
            )
            .len(),
            2
        );
    }

    #[test]
    fn unknown_crates_and_missing_lints_fail() {
        assert_eq!(findings("sidetone-toolbox", "").len(), 1);
        assert_eq!(
            check(&Tree::of(&[(
                "crates/x/Cargo.toml",
                "[package]\nname = \"sidetone-sip\""
            )]))
            .len(),
            1
        );
    }

    #[test]
    fn the_table_obeys_itself() {
        for this in LAYERS {
            for import in this.may_import {
                let imported = LAYERS
                    .iter()
                    .find(|known| known.name == *import)
                    .map(|known| known.layer);
                assert!(
                    imported.is_some_and(|layer| layer < this.layer),
                    "{} imports {import}",
                    this.name
                );
            }
        }
    }
}
