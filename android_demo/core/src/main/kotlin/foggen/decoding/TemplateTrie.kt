package foggen.decoding

import foggen.bundle.TemplateInfo

/** A place in the template: the ids on the way to it. */
typealias Node = List<Int>

/**
 * What the model may write to state its confidence.
 *
 * Every level's token ids form a trie with a shared stem; a level's leaf is the separator after it,
 * so that no level is a prefix of another. To know every level's probability the model must be
 * asked at each branching node only.
 *
 * @property paths for each level, the ids from the first token of its span to the separator
 */
class TemplateTrie(val paths: List<Node>) {
    init {
        for (one in paths) {
            require(paths.count { it.take(one.size) == one } == 1) { "level_ids: no level may begin with another, $one does" }
        }
    }

    /** The ids that may follow each inner node, ascending. */
    val children: Map<Node, List<Int>> =
        paths.flatMap { path -> path.indices.map { path.take(it) to path[it] } }
            .groupBy({ it.first }, { it.second })
            .mapValues { (_, tokens) -> tokens.distinct().sorted() }

    /** The nodes with several children, the deepest first. */
    val branches: List<Node> = children.filterValues { it.size > 1 }.keys.sortedByDescending { it.size }

    /** The fewest drafts that visit every branching node; a single level's whole stem. */
    val drafts: List<Node> =
        if (branches.isEmpty()) {
            listOf(paths[0].dropLast(1))
        } else {
            branches.fold(emptyList()) { drafts, node ->
                if (drafts.any { it.take(node.size) == node }) drafts else drafts + listOf(node)
            }
        }

    /** Returns the tokens that must follow a node before the next choice or the leaf. */
    fun forced(node: Node): Node {
        val tokens = ArrayList<Int>()
        while (true) {
            val choices = children[node + tokens] ?: return tokens
            tokens += choices.singleOrNull() ?: return tokens
        }
    }

    companion object {
        /** Builds the trie of a manifest's template. */
        fun of(template: TemplateInfo): TemplateTrie =
            TemplateTrie(template.levelIds.map { it.toList() + template.separatorIds.toList() })
    }
}
