//! `remora replay --fit`: weights from recorded data, with their provenance.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::{Job, Replay, off_the_executor, write_whole};
use crate::cache::decide::{Observation, Weights, WeightsFile};
use crate::clock::Clock;
use crate::replay::prompt::Texts;
use crate::replay::recording::Intents;
use crate::replay::stream::Stream;
use crate::replay::{Linker, Recording, Spec};

/// Precision of the prior in such a fit: next to none, for here the data are to speak.
const PRECISION: f64 = 0.1;

/// A file that weights are made from.
struct Source {
    name: String,
    digest: String,
    requests: usize,
    observations: Vec<Observation>,
}

impl Replay {
    /// Runs the current policy over the file and those of `--also`, and fits weights to every candidate it saw.
    pub(super) async fn fit(&self, out: &Path, intents: Intents, job: &Job) -> Result<String, String> {
        let Some(spec) = job.table.iter().copied().find(|spec| matches!(spec, Spec::Current { .. })) else {
            return Err("there is no current policy to fit".to_owned());
        };
        let Some(file) = &self.file else { return Err("there is no file to fit weights to".to_owned()) };
        let mut sources = vec![self.observe(file, intents, spec, job).await?];
        for file in &self.also {
            let (path, splits) = (file.clone(), self.split.clone());
            match off_the_executor(move || Recording::open(&path, &splits)).await?.map_err(|e| e.to_string())? {
                Recording::Intents(intents) => sources.push(self.observe(file, intents, spec, job).await?),
                Recording::Pairs(_) | Recording::Traffic(_) => {
                    let name = file.display();
                    return Err(format!("{name}: holds labelled pairs; --also takes files of intents"));
                }
            }
        }
        let rows: Vec<Observation> = sources.iter().flat_map(|source| source.observations.iter().copied()).collect();
        let fitted = off_the_executor({
            let rows = rows.clone();
            move || Weights::unfitted().fit(&rows, PRECISION)
        })
        .await?;
        let right = rows.iter().filter(|row| row.right).count();
        let loss = |weights: &Weights| {
            let log = |row: &Observation| {
                let p = f64::from(weights.probability(&row.inputs)).clamp(1e-9, 1.0 - 1e-9);
                if row.right { -p.ln() } else { -(1.0 - p).ln() }
            };
            rows.iter().map(log).sum::<f64>() / rows.len().max(1) as f64
        };
        let file = WeightsFile {
            space: job.embedder.space().to_string(),
            weights: fitted.named(),
            provenance: json!({
                "made_by": format!("remora {} replay --fit", env!("CARGO_PKG_VERSION")),
                "made_at": httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_millis(Clock::system().now_ms())),
                "files": sources.iter().map(|source| json!({
                    "file": source.name, "blake3": source.digest, "requests": source.requests,
                    "candidates": source.observations.len(),
                })).collect::<Vec<_>>(),
                "splits": self.split,
                "seeds": self.all_seeds(),
                "max_error_rate": spec.parameters().get("max_error_rate"),
                "candidates": rows.len(),
                "right": right,
                "prior_precision": PRECISION,
                "log_loss": loss(&fitted),
            }),
        };
        let text = serde_json::to_string_pretty(&file).map_err(|error| error.to_string())?;
        write_whole(out, &format!("{text}\n"))?;
        Ok(format!(
            "weights fitted to {} candidates ({right} right), log loss {:.4}: {}",
            rows.len(),
            loss(&fitted),
            out.display()
        ))
    }

    async fn observe(&self, path: &Path, intents: Intents, spec: Spec, job: &Job) -> Result<Source, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let seeds = self.all_seeds();
        let mut texts = Texts::default();
        let stream = Stream::new(intents, self.most(), &seeds, &mut texts);
        let prompts = texts
            .embed(&job.embedder, 2 * job.parallel, &job.display.progress())
            .await
            .map_err(|error| error.to_string())?;
        let (linker, answers, requests) = (Arc::new(Linker::new(job.embedder.clone())), self.answers(), stream.len());
        let runs = move || {
            let run = |seed| stream.run(&prompts, spec, seed, answers, &linker, &|_| ());
            seeds.into_iter().map(run).collect::<Result<Vec<_>, _>>()
        };
        let runs = off_the_executor(runs).await?.map_err(|error| error.to_string())?;
        Ok(Source {
            name: super::name(path),
            digest: blake3::hash(&bytes).to_hex().to_string(),
            requests,
            observations: runs.into_iter().flat_map(|run| run.observations).collect(),
        })
    }
}
