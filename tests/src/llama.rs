//! llama.cpp's own HTTP server with SmolLM2-135M, on one thread.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::process::{Process, python};

/// Loading takes a second; a machine busy with other tests takes longer.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How the server is started.
#[derive(Debug, Clone, Copy)]
pub struct LlamaOptions {
    /// The name it knows its model by.
    pub name: &'static str,
    /// Serve `/v1/embeddings` (and then nothing else).
    pub embeddings: bool,
    /// Requests at once; they share 4096 tokens of context.
    pub slots: u32,
}

/// A running server.
#[derive(Debug)]
pub struct Llama {
    process: Process,
    url: String,
}

impl Llama {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// Its parts are not fetched, or it does not start.
    pub fn start(options: LlamaOptions) -> Result<Self> {
        let mut command = python(Path::new("python/llama_server.py"))?;
        command.arg(parts::chat_model()?).args(["--name", options.name, "--slots", &options.slots.to_string()]);
        if options.embeddings {
            command.arg("--embeddings");
        } else {
            // The template inside the model knows no tools; llama.cpp then drops them without a word.
            command.arg("--chat-template").arg(crate::workspace().join("tests/python/chat_template.jinja"));
        }
        let process = Process::start(&format!("llama.cpp ({})", options.name), &mut command)?;
        let url = process.line_where("READY", START_PATIENCE, |line| line.strip_prefix("READY ").map(str::to_owned))?;
        Ok(Self { process, url })
    }

    /// Without a slash at the end and without `/v1`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// The operating system does not let us.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
}
