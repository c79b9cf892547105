//! TRAVERSE: from entry points along edges, or what edges there are to go along.

use std::cmp::Ordering;

use super::super::{Answer, Fault, Found, Load, OrderBy, Stage, Traverse, rounded};
use super::ask::Ask;
use super::walk::{Node, Walk, heavy};
use super::{show, start};
use crate::store::rem::normalise;

/// The answer of a walk, or of its plan.
pub(super) async fn traverse(ask: &Ask<'_>, query: &Traverse) -> Result<Answer, Fault> {
    let entries = start::start(ask, &query.start).await?;
    let fewer = entries.truncated;
    let mut answer = Answer {
        memo: query.memo.clone(),
        missing: entries.missing,
        suggestions: entries.suggestions,
        degraded: entries.degraded,
        ..Answer::default()
    };
    let mut walk = Walk::from(ask, query, entries.rows);
    let mut frontier: Vec<usize> = (0..walk.nodes.len()).collect();
    if !frontier.is_empty() {
        answer.stages.push(Stage { depth: 0, nodes: count(frontier.len()), edges: 0, types: Vec::new() });
    }
    if query.depth == 0 {
        if !frontier.is_empty() {
            walk.step(&frontier, true).await?;
        }
        let names: Vec<String> = walk.nodes.iter().map(|node| node.row.name.clone()).collect();
        answer.truncated = walk.truncated || fewer;
        answer.edge_summary = walk.summary.finish(|at| names.get(at).cloned().unwrap_or_default());
        return Ok(answer);
    }
    for depth in 1..=query.depth {
        if frontier.is_empty() || walk.truncated {
            break;
        }
        let level = walk.step(&frontier, false).await?;
        if level.edges > 0 {
            let types = level.kinds.into_iter().collect();
            answer.stages.push(Stage { depth, nodes: count(level.reached.len()), edges: level.edges, types });
        }
        frontier = level.reached;
    }
    let (results, cut) = shown(&walk, query)?;
    answer.results = results;
    answer.truncated = walk.truncated || cut || fewer;
    answer.edge_summary = walk.summary.finish(|_| String::new());
    Ok(answer)
}

fn count(number: usize) -> u64 {
    number as u64
}

/// The nodes in the order that was asked for, and whether LIMIT left some out.
fn shown(walk: &Walk<'_>, query: &Traverse) -> Result<(Vec<Found>, bool), Fault> {
    // The usual order: by depth, entry points as they were found, then weight, key, table, id.
    let usual = |(place, node): &(usize, &Node)| {
        let entry = if node.depth == 0 { *place } else { 0 };
        (node.depth, entry, heavy(weight(node).unwrap_or(0.0)), normalise(&node.row.name), node.row.table, node.row.id)
    };
    let mut nodes: Vec<(usize, &Node)> = walk.nodes.iter().enumerate().collect();
    nodes.sort_by_cached_key(usual);
    if let Some((by, down)) = query.order {
        // The sort is stable: equal ones stay in the usual order.
        nodes.sort_by(|(_, a), (_, b)| ordered(by, down, a, b));
    }
    let limit = query.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let cut = nodes.len() > limit;
    nodes.truncate(limit);
    show::fits(nodes.iter().map(|(_, node)| &node.row).filter(|_| query.load == Load::Load))?;
    let found = |(_, node): (usize, &Node)| Found {
        score: node.score.map(rounded),
        depth: Some(node.depth),
        via: node.via.as_ref().map(|(kind, _)| kind.clone()),
        weight: weight(node).map(rounded),
        path: walk.path(node),
        ..show::row(&node.row, query.load)
    };
    Ok((nodes.into_iter().map(found).collect(), cut))
}

fn weight(node: &Node) -> Option<f64> {
    node.via.as_ref().map(|(_, weight)| *weight)
}

fn ordered(by: OrderBy, down: bool, a: &Node, b: &Node) -> Ordering {
    let order = match by {
        OrderBy::Depth => a.depth.cmp(&b.depth),
        OrderBy::Name => a.row.name.cmp(&b.row.name),
        OrderBy::CreatedAt => a.row.created_at.cmp(&b.row.created_at),
        // Entry points have no weight and come last either way.
        OrderBy::Weight => match (weight(a), weight(b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
        },
    };
    if down { order.reverse() } else { order }
}
