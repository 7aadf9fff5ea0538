//! How the nodes of a graph hang together: every input is given by somebody, nothing is given twice, and nothing needs
//! itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tract_onnx::pb::{GraphProto, NodeProto};

use super::structure::{label, some_of, subgraphs};

/// What is wrong with the wiring, a sentence each.
pub fn problems(graph: &GraphProto) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut givers: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    let outside = graph.input.iter().map(|i| &i.name).chain(graph.initializer.iter().chain(sparse).map(|t| &t.name));
    givers.extend(outside.map(|name| (name.as_str(), None)));
    let mut twice = Vec::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if givers.insert(output, Some(index)).is_some() {
                twice.push(format!("{output:?}"));
            }
        }
    }
    if !twice.is_empty() {
        wrong.push(format!("tensor {} is given more than once", some_of(&twice)));
    }

    let needs: Vec<BTreeSet<&str>> = graph.node.iter().map(needs).collect();
    let mut missing = Vec::new();
    for (node, needs) in graph.node.iter().zip(&needs) {
        let lost = needs.iter().filter(|name| !givers.contains_key(*name));
        missing.extend(lost.map(|name| format!("{name:?} for node {}", label(node))));
    }
    let lost = graph.output.iter().filter(|output| !givers.contains_key(output.name.as_str()));
    missing.extend(lost.map(|output| format!("{:?} as an output", output.name)));
    if !missing.is_empty() {
        wrong.push(format!("nothing in the graph gives tensor {}", some_of(&missing)));
    }
    let circle = circle(&needs, &givers);
    if !circle.is_empty() {
        let names: Vec<String> = circle.into_iter().map(|index| label(&graph.node[index])).collect();
        wrong.push(format!("the graph runs in a circle: node {} depends on its own output", some_of(&names)));
    }
    wrong
}

/// The tensors that a node needs: its inputs, and what the graphs inside it take from around them.
fn needs(node: &NodeProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for graph in subgraphs(std::iter::once(node)) {
        names.extend(captured(graph));
    }
    names
}

/// What a graph inside a node takes from around it.
fn captured(graph: &GraphProto) -> BTreeSet<&str> {
    let own = graph.input.iter().map(|i| &i.name).chain(graph.initializer.iter().map(|t| &t.name));
    let own: BTreeSet<&str> = own.chain(graph.node.iter().flat_map(|n| &n.output)).map(String::as_str).collect();
    let outputs = graph.output.iter().map(|output| output.name.as_str());
    graph.node.iter().flat_map(needs).chain(outputs).filter(|name| !own.contains(name)).collect()
}

/// The nodes that can never be run, because each waits for another of them.
fn circle(needs: &[BTreeSet<&str>], givers: &BTreeMap<&str, Option<usize>>) -> Vec<usize> {
    let mut waiting: Vec<usize> = vec![0; needs.len()];
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (index, needs) in needs.iter().enumerate() {
        for giver in needs.iter().filter_map(|name| givers.get(name).copied().flatten()) {
            waiting[index] += 1;
            waiters[giver].push(index);
        }
    }
    let mut ready: VecDeque<usize> = (0..needs.len()).filter(|index| waiting[*index] == 0).collect();
    while let Some(index) = ready.pop_front() {
        for waiter in &waiters[index] {
            waiting[*waiter] -= 1;
            if waiting[*waiter] == 0 {
                ready.push_back(*waiter);
            }
        }
    }
    // What waits only because it comes after the circle is not part of it: nobody in the rest waits for it.
    let mut in_rest: Vec<bool> = waiting.iter().map(|waiting| *waiting > 0).collect();
    let mut waited: Vec<usize> =
        waiters.iter().map(|waiters| waiters.iter().filter(|waiter| in_rest[**waiter]).count()).collect();
    let mut last: VecDeque<usize> = (0..needs.len()).filter(|index| in_rest[*index] && waited[*index] == 0).collect();
    while let Some(index) = last.pop_front() {
        in_rest[index] = false;
        for giver in needs[index].iter().filter_map(|name| givers.get(name).copied().flatten()) {
            waited[giver] -= 1;
            if in_rest[giver] && waited[giver] == 0 {
                last.push_back(giver);
            }
        }
    }
    (0..needs.len()).filter(|index| in_rest[*index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_on_a_circle_is_none_of_it_however_long_it_is() {
        let node = |input: &[String], output: String| NodeProto {
            name: output.clone(),
            input: input.to_vec(),
            output: vec![output],
            ..NodeProto::default()
        };
        let name = |at: usize| format!("t{at}");
        let mut nodes = vec![node(&[name(1)], name(0)), node(&[name(0)], name(1))];
        // Each node of the tail waits for the two before it.
        nodes.extend((2..30_000).map(|at| node(&[name(at - 1), name(at - 2)], name(at))));
        let graph = GraphProto { node: nodes, ..GraphProto::default() };
        let problems = problems(&graph);
        assert_eq!(problems, ["the graph runs in a circle: node \"t0\", \"t1\" depends on its own output"]);
    }
}
