package foggen.decoding

import foggen.engine.TokenEngine

/**
 * What the model wrote up to its confidence, and how sure it was of that.
 *
 * @property tokens the ids written, from the first of the confidence span to the separator after it
 * @property level index of the level; null when the output left the template
 * @property reading the levels' probabilities; null when not every branch was visited
 * @property prefillMs of the first forward pass
 */
class Decision(val tokens: List<Int>, val level: Int?, val reading: Reading?, val prefillMs: Double)

/**
 * A way to decode; one per question. It knows token ids only.
 *
 * Its output is the decision's tokens and then those of [answer]. Whoever drives it compares the
 * confidence with tau in between, and drops the decoder to defer.
 */
interface Decoder {
    /** Feeds the rest of the prompt and goes on to the end of the confidence span. */
    fun decide(prompt: IntArray): Decision

    /** Gives the ids after the separator, the end-of-sequence id included if it comes. */
    fun answer(maxNewTokens: Int): Sequence<Int>
}

/** What every decoder works with: an engine that holds what the prompt continues, and the template. */
class DecodingContext(
    val engine: TokenEngine,
    val trie: TemplateTrie,
    val answerPrefix: Node,
    val eosTokenIds: Set<Int>,
)

/** Gives the arg max after [token], and after that, until an end or the limit. */
internal fun greedySteps(context: DecodingContext, token: Int, maxNewTokens: Int): Sequence<Int> = sequence {
    var last = token
    val room = context.engine.contextLength - context.engine.length
    repeat(minOf(maxNewTokens, room)) {
        if (last in context.eosTokenIds) return@sequence
        last = argMax(lastRow(context.engine, intArrayOf(last)))
        yield(last)
    }
}

/** Appends ids and returns the logits after them. */
internal fun lastRow(engine: TokenEngine, ids: IntArray): FloatArray = engine.forward(ids).let { it.row(it.rows - 1) }

/**
 * Appends ids and shows the logits of the last [count], in one pass if the tail is enough.
 *
 * @param see given the row's index among the last and the row, which it must not keep
 */
internal fun lastRows(engine: TokenEngine, ids: IntArray, count: Int, see: (Int, FloatArray) -> Unit) {
    val tail = engine.logitsTail
    val first = ids.size - maxOf(0, count - tail)
    var seen = 0
    var start = 0
    var end = first
    while (start < ids.size) {
        val logits = engine.forward(ids.copyOfRange(start, end))
        val wanted = if (start == 0) minOf(count, tail) else end - start
        for (row in logits.rows - wanted until logits.rows) see(seen++, logits.row(row))
        start = end
        end = minOf(end + tail, ids.size)
    }
}

internal fun readingOrNull(trie: TemplateTrie, views: Map<Node, NodeView>): Reading? =
    if (trie.branches.all { it in views }) readLevels(trie, views) else null

internal inline fun <T> timedMs(work: () -> T): Pair<T, Double> {
    val start = System.nanoTime()
    val result = work()
    return result to (System.nanoTime() - start) / 1e6
}
