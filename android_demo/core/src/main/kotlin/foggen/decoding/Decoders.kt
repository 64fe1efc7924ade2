package foggen.decoding

/** The plain loop, one token per forward pass: the reference the others are held to. */
class StepDecoder(private val context: DecodingContext) : Decoder {
    private var pending = -1

    override fun decide(prompt: IntArray): Decision {
        val trie = context.trie
        val views = HashMap<Node, NodeView>()
        val (row, prefillMs) = timedMs { lastRow(context.engine, prompt) }
        var node: Node = emptyList()
        views[node] = viewOf(trie, node, row)
        node = listOf(argMax(row))
        while (node in trie.children) {
            val next = lastRow(context.engine, intArrayOf(node.last()))
            views[node] = viewOf(trie, node, next)
            node = node + argMax(next)
        }
        val level = trie.paths.indexOf(node)
        if (level < 0) return Decision(node, null, null, prefillMs)
        pending = node.last()
        return Decision(node, level, readingOrNull(trie, views), prefillMs)
    }

    override fun answer(maxNewTokens: Int): Sequence<Int> = greedySteps(context, pending, maxNewTokens)
}

/**
 * Greedy decoding that verifies drafts instead of stepping through them.
 *
 * A drafted token is accepted only if it is the arg max over the whole vocabulary, so this writes
 * what [StepDecoder] writes.
 */
class GreedyDecoder(private val context: DecodingContext) : Decoder {
    private val trie = context.trie
    private val views = HashMap<Node, NodeView>()
    private val written = ArrayList<Int>()
    private var decided = 0

    override fun decide(prompt: IntArray): Decision {
        var node: Node = emptyList()
        val (first, prefillMs) = timedMs { verify(prompt, trie.drafts[0], node) }
        var accepted = first
        while (true) {
            for (token in accepted) {
                node = node + token
                val level = trie.paths.indexOf(node)
                if (level >= 0) {
                    decided = node.size
                    return Decision(node, level, readingOrNull(trie, views), prefillMs)
                }
                if (node !in trie.children) return Decision(node, null, null, prefillMs)
            }
            accepted = verify(intArrayOf(node.last()), expected(node), node)
        }
    }

    override fun answer(maxNewTokens: Int): Sequence<Int> {
        val verified = written.drop(decided).take(maxNewTokens)
        return verified.asSequence() + greedySteps(context, written.last(), maxNewTokens - verified.size)
    }

    /** Returns what the template goes on with, up to the answer when no choice is left. */
    private fun expected(node: Node): Node {
        val forced = trie.forced(node)
        return if (node + forced in trie.paths) forced + context.answerPrefix else forced
    }

    /** Feeds tokens and a draft; returns the draft's accepted part and the token after it. */
    private fun verify(fed: IntArray, draft: Node, node: Node): List<Int> {
        val start = context.engine.length + fed.size
        val chosen = ArrayList<Int>()
        lastRows(context.engine, fed + draft, draft.size + 1) { depth, row ->
            // Once a token is refused, the rows after it say nothing.
            if (depth == chosen.size && chosen == draft.take(depth)) {
                val visited = node + draft.take(depth)
                if (visited in trie.children) views[visited] = viewOf(trie, visited, row)
                chosen += argMax(row)
            }
        }
        context.engine.truncate(start + chosen.size - 1)
        written += chosen
        return chosen
    }
}

/**
 * Reads the level among the template's branches; one pass when they lie on one draft.
 *
 *     prompt │ Conf idence :  ␠ │ 0 .          fed in one pass: the prompt, the stem, the draft
 *          ↓     ↓     ↓   ↓  ↓   ↓ ↓
 *         Conf idence  :   ␠ 0|1  . 0|2|5|7    what the tail's logits answer
 *
 * So a confidence always parses; the reading says how much mass the model gave to the template.
 *
 * @param firstAnswerIds the only ids the answer may begin with; null for any
 * @param columns the column of each token, where the output head has only some: the answer is then
 *   one token, and ends
 */
class ConstrainedDecoder(
    private val context: DecodingContext,
    private val firstAnswerIds: List<Int>? = null,
    private val columns: Map<Int, Int>? = null,
) : Decoder {
    private val trie = context.trie
    private var start = 0
    private var fed: Node = emptyList()
    private var path: Node = emptyList()

    override fun decide(prompt: IntArray): Decision {
        start = context.engine.length + prompt.size
        val views = HashMap<Node, NodeView>()
        val first = trie.drafts[0]
        val (_, prefillMs) = timedMs {
            lastRows(context.engine, prompt + first, first.size + 1) { depth, row ->
                views[first.take(depth)] = viewOf(trie, first.take(depth), row, columns)
            }
        }
        fed = first
        for (draft in trie.drafts.drop(1)) {
            val shared = rollBack(draft)
            lastRows(context.engine, draft.drop(shared).toIntArray(), draft.size - shared) { index, row ->
                val node = draft.take(shared + 1 + index)
                views[node] = viewOf(trie, node, row, columns)
            }
            fed = draft
        }
        val reading = readLevels(trie, views)
        path = trie.paths[reading.level]
        return Decision(path, reading.level, reading, prefillMs)
    }

    override fun answer(maxNewTokens: Int): Sequence<Int> = sequence {
        val whole = path + context.answerPrefix
        val shared = rollBack(whole)
        val first = firstOf(lastRow(context.engine, whole.drop(shared).toIntArray()))
        yieldAll(context.answerPrefix.take(maxNewTokens))
        val left = maxNewTokens - context.answerPrefix.size
        if (left > 0) {
            yield(first)
            // Nothing but the end may follow a letter of a small head: no pass is spent on it.
            yieldAll(
                if (columns == null) {
                    greedySteps(context, first, left - 1)
                } else {
                    context.eosTokenIds.take(minOf(1, left - 1)).asSequence()
                },
            )
        }
    }

    /** Keeps in the cache what [path] shares with what was fed; returns how many tokens. */
    private fun rollBack(path: Node): Int {
        val shared = path.zip(fed).takeWhile { (one, other) -> one == other }.size
        context.engine.truncate(start + shared)
        return shared
    }

    private fun firstOf(row: FloatArray): Int {
        val allowed = firstAnswerIds ?: return argMax(row)
        return allowed.sorted().maxByOrNull { row[columns?.getValue(it) ?: it] } ?: argMax(row)
    }
}
