package foggen

// The same as the Python runtime's choice.py, word for word; both are held to tests/golden/choices.json.

// Of a longer answer, this many characters at either end are read: a cloud may send megabytes.
private const val READ = 4096
private const val FULL_WIDTH = 0xFEE0

// At a line's start, or after a space so that options may follow each other on one line.
private val OPTION = Regex("(?:^|\\s)\\(?([A-Z])[).:](?=\\s)")

// Cyrillic capitals that look like Latin ones: keyboards of two scripts mix them up.
private val LOOKALIKES = "\u0410\u0412\u0421\u0415\u041d\u0406\u041a\u041c\u041e\u0420\u0422\u0425".zip("ABCEHIKMOPTX").toMap()

private val ANSWER = setOf("answer", "ответ", "жауап", "жауабы")
private val CHINESE_ANSWERS = listOf("答案", "答案是", "答案为", "答案為", "应为", "选", "选择", "选项")
private val OPTION_WORDS = setOf("option", "choice", "вариант", "нұсқа")
private val IS = setOf("is", "was", "be", "это", "является")
private val LINKS = IS + setOf("would", "should", "must", "therefore", "thus", "letter")
private val FILLERS = IS + setOf("the", "a", "an", "best", "final", "most", "likely", "probably", "clearly")
private val RIGHT = ANSWER + setOf("correct", "right", "true", "верно", "верный", "правильно", "правильный", "дұрыс")
private val WRONG = setOf("not", "wrong", "incorrect", "false", "неверно", "неправильно", "нет", "емес", "қате")
private val IS_NOT = setOf("isn't", "isn\u2019t", "cannot", "can't", "can\u2019t")
private val NOT = setOf("not", "neither", "nor", "isn't", "isn\u2019t", "не", "ни")
private val OR = setOf("or", "and", "nor", "или", "и", "либо", "ни", "немесе", "және", "或", "或者", "和", "还是")
private val LATEX = setOf("text", "textbf", "mathrm", "mathbf")

// What may follow the letter A or I; before any other word in lower case they are words themselves.
private val AFTER_LETTER = IS + IS_NOT + OR + setOf("because", "since", "as", "but", "while", "would")
private const val FEW = 4 // words that may stand between a letter and what is said of it

/**
 * Returns the option letter an answer starts with or states; null when it has none.
 *
 * `B`, `B) Paris`, `The answer is B.` and `B is correct` all give B; where the options are known, so
 * does any text in which no other letter of theirs stands by itself, such as `It is B`. What the
 * answer denies (`not B`) or leaves open (`A or B`) is not stated. Full-width letters count, and so
 * do Cyrillic ones that look like a known option where they are the answer.
 *
 * @param answer the text; of one longer than 8,192 characters the middle is not read
 * @param options the letters there are, if that is known: no other one is returned
 */
fun parseChoice(answer: String, options: Set<String> = emptySet()): String? {
    val text = AnswerText(endsOf(answer), options)
    // From the surest to the vaguest; of several places, the last is what the text ends with.
    for (rule in listOf(text::beginsWith, text::boxes, text::answers, text::chooses)) {
        text.claimed.lastOrNull { rule(it) }?.let { return text.letterAt(it) }
    }
    return text.named().singleOrNull()
}

/**
 * Returns the option letters of a question, e.g. A, B, C of lines such as `A) Paris`.
 *
 * They follow each other in the alphabet, mostly from A, and are at least two: an initial, as of
 * E. coli, or a unit, as in 1.1 V, is none.
 */
fun questionOptions(question: String): Set<String> {
    val found = OPTION.findAll(narrow(question)).map { it.groupValues[1] }.joinToString("")
    val fromA = run(found, 'A')
    val runs = if (fromA.size > 1) listOf(fromA) else found.toSet().map { run(found, it) }
    val longest = runs.maxByOrNull { it.size } ?: emptyList()
    return if (longest.size > 1) longest.map(Char::toString).toSet() else emptySet()
}

/** Returns the letters that follow each other in the alphabet, from the first given. */
private fun run(letters: String, first: Char): List<Char> {
    var at = -1
    return (first..'Z').takeWhile { letter ->
        at = letters.indexOf(letter, at + 1)
        at >= 0
    }
}

private fun endsOf(answer: String): String =
    // Joined by a letter: a word that is cut in two must not leave one that is an option's.
    if (answer.length <= 2 * READ) answer else "${answer.take(READ)}x${answer.takeLast(READ)}"

private fun narrow(text: String): String = buildString(text.length) {
    for (char in text) {
        append(if (char in '\uFF01'..'\uFF5E') char - FULL_WIDTH else if (char == '\u3000') ' ' else char)
    }
}

/** An answer's words and gaps, and the letters among them. */
private class AnswerText(text: String, private val options: Set<String>) {
    private val words = ArrayList<String>()
    private val gaps = ArrayList<String>() // before each word, and after the last
    private val lower: List<String>
    private val mentions = LinkedHashMap<Int, String>()
    private val denied = HashSet<Int>()
    private val open = HashSet<Int>()

    /** The places of the mentions that are neither denied nor left open. */
    val claimed: List<Int>

    init {
        split(narrow(text))
        lower = words.map { it.lowercase() }
        words.indices.forEach { at -> mentionAt(at)?.let { mentions[at] = it } }
        groups().forEach(::judge)
        claimed = mentions.keys.filter {
            it !in denied && it !in open && (options.isEmpty() || mentions[it] in options)
        }
    }

    fun letterAt(at: Int): String = mentions.getValue(at)

    /** The options that are mentioned and nowhere denied; look-alikes are mostly words. */
    fun named(): Set<String> {
        val latin = mentions.filter { (at, letter) -> letter == words[at] }
        return latin.values.toSet() - latin.filterKeys { it in denied }.values.toSet() intersect options
    }

    /** Whether the answer starts with the letter, as in `B` or `B) Paris`. */
    fun beginsWith(at: Int): Boolean = at == 0 && standsApart(at)

    /** Whether the letter is boxed, as in `\boxed{\text{B}}`. */
    fun boxes(at: Int): Boolean {
        val last = if (word(at - 1) in LATEX) at - 2 else at - 1
        return word(last) == "boxed" && gaps[last].endsWith("\\")
    }

    /** Whether the letter is called the answer, as in `the answer is B` or `B is correct`. */
    fun answers(at: Int): Boolean {
        val before = before(at, LINKS + OPTION_WORDS)
        if (before in ANSWER || CHINESE_ANSWERS.any { before.endsWith(it) }) return true
        val linked = word(at + 1) in IS || gaps[at + 1].trim() in setOf("-", "\u2013", "\u2014")
        return linked && after(at) in RIGHT
    }

    /** Whether the letter is called an option, as in `option B`. */
    fun chooses(at: Int): Boolean = before(at, LINKS) in OPTION_WORDS

    /** Takes a text apart; a script without spaces is a word of its own. */
    private fun split(text: String) {
        var start = 0
        while (true) {
            var first = start
            while (first < text.length && kindAt(text, first) == Kind.MARK) first += sizeAt(text, first)
            gaps += text.substring(start, first)
            if (first == text.length) return
            start = wordEnd(text, first)
            words += text.substring(first, start).trim('_', '\'', '\u2019')
        }
    }

    private fun wordEnd(text: String, first: Int): Int {
        val kind = kindAt(text, first)
        var end = first + sizeAt(text, first)
        while (end < text.length) {
            val inside = kind == Kind.SPACED && text[end] in "'\u2019" && kindAt(text, end + 1) == kind
            if (!inside && kindAt(text, end) != kind) return end
            end += sizeAt(text, end)
        }
        return end
    }

    private fun mentionAt(at: Int): String? {
        val word = words[at].singleOrNull() ?: return null
        val letter = LOOKALIKES[word] ?: word
        if (letter !in 'A'..'Z') return null
        // Before a word the Cyrillic letter is a preposition; else a mark follows, or nothing.
        if (letter != word && (letter.toString() !in options || gaps[at + 1] == " ")) return null
        return if (isAWord(at)) null else letter.toString()
    }

    /** Whether this is the article or the pronoun, not a letter. */
    private fun isAWord(at: Int): Boolean {
        if (words[at] !in setOf("A", "I") || at + 1 == words.size) return false
        if (gaps[at + 1].isEmpty() || gaps[at + 1].isNotBlank()) return false
        if (words[at] == "A" && before(at, LINKS) in ANSWER) return false
        return words[at + 1].firstOrNull()?.isLowerCase() == true && words[at + 1] !in AFTER_LETTER
    }

    /** Returns mentions that are named together: `A or B`, `A, B and C`, `A/B`, `A, B`. */
    private fun groups(): List<List<Int>> {
        val groups = ArrayList<MutableList<Int>>()
        for (at in mentions.keys) {
            val group = groups.lastOrNull()
            if (group != null && joins(group.last(), at)) group += at else groups += mutableListOf(at)
        }
        return groups
    }

    private fun joins(one: Int, other: Int): Boolean = when (other) {
        one + 1 -> gaps[other].trim() in setOf(",", "/", "&")
        one + 2 -> lower[one + 1] in OR
        else -> false
    }

    /** Notes whether a group is denied as a whole, or leaves open which of it is meant. */
    private fun judge(group: List<Int>) {
        val first = group.first()
        val last = group.last()
        val notBefore = gaps[first].trim(' ', '*', '"', '\'', '(', '\n').isEmpty() && word(first - 1) in NOT
        val following = word(last + 1)
        val notAfter = following in IS_NOT || following in WRONG || (following in IS && word(last + 2) in WRONG)
        if (notBefore || '不' in word(first - 1).takeLast(3) || (notAfter && group.size == 1)) denied += group
        val commasOnly = group.zipWithNext().all { (one, other) -> other == one + 1 && gaps[other].trim() == "," }
        if (!commasOnly) open += group
    }

    /** Whether a letter ends its line or the text, or is followed by a mark that closes it. */
    private fun standsApart(at: Int): Boolean {
        val gap = gaps[at + 1]
        val rest = gap.trimStart()
        if ('\n' in gap.dropLast(rest.length)) return true
        return if (rest.isEmpty()) at + 1 == words.size else rest[0] in ").:,*。、"
    }

    /** Returns a word in lower case; nothing outside the text. */
    private fun word(at: Int): String = lower.getOrElse(at) { "" }

    /** Returns the word before a letter, past a few that only link; nothing after a question. */
    private fun before(at: Int, links: Set<String>): String {
        for (place in at downTo maxOf(at - FEW, 0) + 1) {
            if ('?' in gaps[place]) return ""
            if (word(place - 1) !in links) return word(place - 1)
        }
        return ""
    }

    /** Returns the word after a letter, past a few that say nothing. */
    private fun after(at: Int): String = (1..1 + FEW).map { word(at + it) }.firstOrNull { it !in FILLERS } ?: ""
}

private enum class Kind { MARK, SPACED, UNSPACED }

private fun sizeAt(text: String, at: Int): Int = Character.charCount(text.codePointAt(at))

/** What Python's `\w` takes for a part of a word; Java's and Android's own differ from each other. */
private fun kindAt(text: String, at: Int): Kind {
    if (at >= text.length) return Kind.MARK
    val code = text.codePointAt(at)
    return when (Character.getType(code).toByte()) {
        Character.LETTER_NUMBER, Character.OTHER_NUMBER -> Kind.SPACED
        else -> when {
            code in 0x3040..0x30ff || code in 0x3400..0x9fff || code in 0xf900..0xfaff -> Kind.UNSPACED
            Character.isLetterOrDigit(code) || code == '_'.code -> Kind.SPACED
            else -> Kind.MARK
        }
    }
}
