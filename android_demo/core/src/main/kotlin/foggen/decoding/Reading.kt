package foggen.decoding

import kotlin.math.exp
import kotlin.math.ln

/**
 * What the logits after one node of the template say of its children.
 *
 * @property logits of each child, in the trie's order
 * @property logMass log of the probability, over the whole vocabulary, of going on with a child;
 *   null where only some tokens have logits
 */
class NodeView(val logits: FloatArray, val logMass: Double?)

/**
 * The levels as read from logits.
 *
 * @property level index of the level on the greedy walk: what greedy decoding would have written
 * @property levelProbabilities one per level, products of softmaxes over each node's children
 * @property templateProbability the probability, over the whole vocabulary, that the model goes on
 *   with a child of the node, multiplied over the visited nodes of the walk; null where only some
 *   tokens have logits
 */
class Reading(val level: Int, val levelProbabilities: DoubleArray, val templateProbability: Double?)

/**
 * Looks at a row of logits from a node that is no leaf.
 *
 * @param columns the column of each token, where only some have one
 */
fun viewOf(trie: TemplateTrie, node: Node, row: FloatArray, columns: Map<Int, Int>? = null): NodeView {
    val children = trie.children.getValue(node)
    if (columns != null) return NodeView(FloatArray(children.size) { row[columns.getValue(children[it])] }, null)
    val logits = FloatArray(children.size) { row[children[it]] }
    val maximum = row[argMax(row)]
    var mass = 0.0
    for (logit in logits) mass += exp((logit - maximum).toDouble())
    return NodeView(logits, ln(mass / sumOfExponentials(row, maximum)))
}

/** Reads the levels from the views of the visited nodes; every branching node must be there. */
fun readLevels(trie: TemplateTrie, views: Map<Node, NodeView>): Reading {
    val shares = trie.branches.associateWith { softmax(views.getValue(it).logits) }
    var walk: Node = emptyList()
    var logProbability: Double? = 0.0
    while (walk in trie.children) {
        val children = trie.children.getValue(walk)
        val view = views[walk]
        if (view != null) logProbability = view.logMass?.let { mass -> logProbability?.plus(mass) }
        walk = walk + if (children.size == 1) children[0] else children[argMax(views.getValue(walk).logits)]
    }
    val levels = DoubleArray(trie.paths.size) { pathProbability(trie, trie.paths[it], shares) }
    return Reading(trie.paths.indexOf(walk), levels, logProbability?.let(::exp))
}

/** Returns the index of the largest number, the first of equal ones. */
fun argMax(numbers: FloatArray): Int {
    var best = 0
    for (index in numbers.indices) if (numbers[index] > numbers[best]) best = index
    return best
}

private fun pathProbability(trie: TemplateTrie, path: Node, shares: Map<Node, DoubleArray>): Double {
    var product = 1.0
    for (depth in path.indices) {
        val node = path.take(depth)
        val share = shares[node] ?: continue
        product *= share[trie.children.getValue(node).indexOf(path[depth])]
    }
    return product
}

private fun softmax(logits: FloatArray): DoubleArray {
    val maximum = logits[argMax(logits)]
    val weights = DoubleArray(logits.size) { exp(logits[it].toDouble() - maximum) }
    val sum = weights.sum()
    return DoubleArray(weights.size) { weights[it] / sum }
}

private fun sumOfExponentials(row: FloatArray, maximum: Float): Double {
    var sum = 0.0
    for (logit in row) sum += exp((logit - maximum).toDouble())
    return sum
}
