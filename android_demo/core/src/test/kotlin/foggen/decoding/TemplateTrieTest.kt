package foggen.decoding

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import kotlin.math.exp

class TemplateTrieTest {
    // Levels 0.0, 0.5 and 1.0 as `C 0 . 0 ;`, `C 0 . 5 ;`, `C 1 . 0 ;`
    private val trie = TemplateTrie(listOf(listOf(9, 0, 7, 0, 8), listOf(9, 0, 7, 5, 8), listOf(9, 1, 7, 0, 8)))

    @Test
    fun `the branches lie on one draft`() {
        assertEquals(listOf(listOf(9, 0, 7), listOf(9)), trie.branches)
        assertEquals(listOf(listOf(9, 0, 7)), trie.drafts)
        assertEquals(listOf(7, 0, 8), trie.forced(listOf(9, 1)))
        assertEquals(listOf(9), trie.forced(emptyList()))
    }

    @Test
    fun `branches off the path need another draft`() {
        val wide = TemplateTrie(listOf(listOf(0, 1), listOf(0, 2), listOf(3, 1), listOf(3, 2)))
        assertEquals(setOf(listOf(0), listOf(3)), wide.drafts.toSet())
        assertEquals(listOf(listOf(4, 5)), TemplateTrie(listOf(listOf(4, 5, 6))).drafts)
    }

    @Test
    fun `no level may begin with another`() {
        assertThrows(IllegalArgumentException::class.java) { TemplateTrie(listOf(listOf(1), listOf(1, 2))) }
    }

    @Test
    fun `the level is what greedy decoding would write, though another leaf is likelier`() {
        fun row(vararg pairs: Pair<Int, Double>) = FloatArray(10) { -50f }.also { for ((id, p) in pairs) it[id] = Math.log(p).toFloat() }
        val rows = mapOf(
            emptyList<Int>() to row(9 to 0.5, 4 to 0.5),
            listOf(9) to row(0 to 0.55, 1 to 0.45),
            listOf(9, 0) to row(7 to 1.0),
            listOf(9, 0, 7) to row(0 to 0.4, 5 to 0.4, 6 to 0.2),
        )
        val reading = readLevels(trie, rows.mapValues { (node, row) -> viewOf(trie, node, row) })
        assertEquals(0, reading.level) // the first of equal ones
        assertEquals(listOf(0.275, 0.275, 0.45), reading.levelProbabilities.map { Math.round(it * 1e6) / 1e6 })
        assertEquals(0.5 * 0.8, reading.templateProbability!!, 1e-6)
    }

    @Test
    fun `with logits of some tokens only the level is the same, and no mass is known`() {
        val columns = mapOf(0 to 0, 1 to 1, 5 to 2, 7 to 3, 8 to 4, 9 to 5)
        val row = floatArrayOf(2f, 1f, 3f, 0f, 0f, 0f)
        val reading = readLevels(trie, trie.branches.associateWith { viewOf(trie, it, row, columns) })
        assertEquals(1, reading.level)
        assertEquals(1.0, reading.levelProbabilities.sum(), 1e-12)
        assertEquals(1 / (1 + exp(1.0)), reading.levelProbabilities[2], 1e-6)
        assertEquals(null, reading.templateProbability)
    }

    @Test
    fun `mass is over the whole vocabulary`() {
        val view = viewOf(trie, listOf(9), floatArrayOf(1f, 2f, 3f))
        assertEquals((exp(1.0) + exp(2.0)) / (exp(1.0) + exp(2.0) + exp(3.0)), exp(view.logMass!!), 1e-6)
        assertEquals(listOf(1f, 2f), view.logits.toList())
    }
}
