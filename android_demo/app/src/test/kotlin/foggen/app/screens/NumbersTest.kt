package foggen.app.screens

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import java.util.Locale

class NumbersTest {
    private val english = Numbers(Locale.ENGLISH, Units("%1\$s ms", "%1\$s s", "%1\$s MB"))

    @Test
    fun `numbers are short`() {
        assertEquals(listOf("0%", "50%", "100%"), listOf(0.0, 0.499, 1.0).map(english::percent))
        assertEquals(listOf("3.2 ms", "42 ms", "1.5 s", "1,000.0 s"), listOf(3.24, 42.4, 1_500.0, 1e6).map(english::duration))
        assertEquals(listOf("0.0 MB", "3.1 MB", "318 MB"), listOf(40_000L, 3_100_000L, 318_200_000L).map(english::megabytes))
    }

    @Test
    fun `the decimal sign and the units are the language's`() {
        for (language in listOf("kk", "ru")) {
            val numbers = Numbers(Locale(language), Units("%1\$s мс", "%1\$s с", "%1\$s МБ"))
            assertEquals(listOf("0,75", "1,5 с", "3,1 МБ"), listOf(numbers.decimals(0.75, 2), numbers.duration(1_500.0), numbers.megabytes(3_100_000)))
        }
    }
}
