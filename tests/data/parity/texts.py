"""Texts that tokenizers disagree about.

Without characters newer than the Unicode tables of Python's tokenizers (U+32FF, of Unicode 12.1, is one): Node's know them.
"""
CODE = [
    "def add(a: int, b: int = 0) -> int:\n\treturn a + b  # 100 % sure\n\n\nif __name__ == '__main__':\n    print(add(1, 2))\n",
    "const f = async ({ a, ...rest }) => { await a?.b ?? `${rest}\\n`; };\r\n// <!-- html --> &amp; &#39;",
    "SELECT COUNT(*) FROM \"users\" WHERE name LIKE '%o''neil%' AND id>=10;--",
    "{\"a\":[1,2.5e-10,null,true],\"b\":{\"c\":\"\\u00e9\\\"\"}}",
    "^(?:[a-z0-9!#$%&'*+/=?^_`{|}~-]+)@\\w+(\\.\\w+)*$",
    "#include <stdio.h>\nint main(void){for(;;)printf(\"%d\\n\",0x7fffffff);}",
    "snake_case camelCase PascalCase SCREAMING_SNAKE kebab-case x86_64 v1.2.3-rc.4 https://example.com/a?b=c&d=%20#e",
]
WORDS = [
    "Hello, world! It's a test: isn't it? We'll see; they've gone...",
    "unbelievably antidisestablishmentarianism floccinaucinihilipilification",
    "The price is $1,234,567.89 (approx. 1.1m) on 2024-02-29T23:59:59Z, i.e. 50%±3",
    "a" * 99 + " " + "b" * 100 + " " + "c" * 101 + " " + "d" * 250,
    "A.B.C. d.e.f U.S.A. Ph.D. e-mail re-enter co-op -- --- – — ―",
    "don't can't I'm you're he'd she'll DON'T CAN'T I'M you’re ‘quoted’ “double” «guillemets» „low“",
    "",
    "a",
    " a",
    "a ",
    ".",
    "9" * 60,
]
CJK = [
    "你好，世界。這是一個測試！我们在学习机器学习。",
    "日本語のテキスト、カタカナ、ひらがな。ｶﾀｶﾅ全角ＡＢＣ１２３",
    "한국어 텍스트입니다. 안녕하세요! \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "混合text中文and英文123数字",
    "\U00020000\U0002a6d6\U0002f800 \uf900\ufa0e 〇々〆ヶ",
    "が か\u3099 ｶﾞ ㍿ ㌔ ㋀ 〒 ※",
]
EMOJI = [
    "👋🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 1️⃣ #️⃣ ❤️ ❤ ☺︎ 🧑🏿‍💻",
    "😀😃😄😁🤣 text😀text 😀 . 🦄🫠🪿🩷",
    "\U0001f468\u200d\u2695\ufe0f \U000e0067\U000e007f 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
]
MARKS = [
    "Café CAFÉ cafe\u0301 CAFE\u0301 naïve Ångström A\u030angstro\u0308m \u212bngström",
    "Z\u0351\u036b\u0343a\u0329\u0333l\u0328\u0334g\u0360o\u0322\u0321 \u0301alone",
    "Tiếng Việt: Nguyễn Phúc Đường đẹp quá ơ ư ế ệ",
    "हिन्दी में नमस्ते क्षत्रिय ज्ञान श्री",
    "ภาษาไทยไม่มีช่องว่าง น้ำ ที่",
    "العربية مُشَكَّلَة بِسْمِ اللَّهِ ـــ ﷺ ﻼ ١٢٣",
    "עִבְרִית מְנֻקֶּדֶת שָׁלוֹם ײַ",
    "தமிழ் മലയാളം ಕನ್ನಡ తెలుగు বাংলা ਪੰਜਾਬੀ ગુજરાતી ଓଡ଼ିଆ සිංහල",
    "Русский ЁЖ ёж й й Українська ґ ї Ї",
    "ΑΣ ΟΔΥΣΣΕΥΣ Σίσυφος ΆΈΉΊΌΎΏ ᾳ ᾼ ΐ",
    "İstanbul ISPARTA ıI iİ Iı ß ẞ ﬃ ﬁ ŉ ǰ ǅ ǈ ǋ ŀ ĳ",
    "Cherokee ᏣᎳᎩ ꭰꭱ Deseret 𐐀𐐨 Adlam 𞤀𞤢 Georgian ᲐბგᲒ Ა",
]
COMPATIBILITY = [
    "① ② ⑩ ㏒ ㎏ ㎡ ½ ¼ ² ³ ⁴ ₅ ™ © ® ℠ ℃ ℉ ℀ № Ⅷ ⅷ",
    "𝐇𝐞𝐥𝐥𝐨 𝓦𝓸𝓻𝓵𝓭 𝔽𝕠𝕠 𝟘𝟙𝟚 ℋℌℍ ﹙﹚ ｛｝ ～ 〜 ￣ ￥ ￦",
    "ﬀ ﬂ ﬆ ﭏ ﹼ ﹽ ︵ ︶ ⑴ ⒈ ⓐ Ⓐ 🄰 🈁 ㈠ ㊀ 豈 更",
    "… ‥ ․ ‼ ⁇ ′ ″ ‴ ⁗ ¨ ´ ¸ ˙ ˝ ͺ",
]
CONTROL = [
    "nul\x00bell\x07back\x08tab\tline\nvtab\x0bfeed\x0creturn\resc\x1bdel\x7fend",
    "c1\x80\x85\x8d\x8f\x90\x9f\xa0nbsp\xadshy",
    "zero\u200bwidth\u200cnon\u200djoiner\u200emark\u200f\u202aembed\u202c\u2060word\u2061\ufeffbom",
    "line\u2028sep\u2029para \u061c\u180e\u034f \u2066isolate\u2069",
    "\ufffd\ufffc\uffff\ufdd0\U0001ffff\ue000\U000f0000\U0010fffd unassigned \u0378\U000e0080\u0530",
    "\x1c\x1d\x1e\x1f units",
]
BLANKS = [
    " ", "\n", "\t", "\r\n", "   ", " " * 300, "\n" * 50, "\t" * 33, " \t\n\r " * 20,
    "a" + " " * 40 + "b\n" + " " * 24 + "c\t\t\td",
    "en\u2002em\u2003thin\u2009hair\u200afigure\u2007narrow\u202fideographic\u3000ogham\u1680math\u205fend",
    "  leading and trailing  ",
    "multiple   inner    spaces     here",
    "end of line \n start \n\n\n of \r\n\r\n another\r",
]
SPECIAL = [
    "[CLS] a [SEP] b [MASK] [PAD] [UNK] [unused1]",
    "<s> a </s> <pad> <unk> <mask> <|endoftext|> <extra_id_0> <0x41>",
    "a[MASK]b <mask>c  <mask>  d",
    "##ing ##s Ġthe ▁the ▁▁ a▁b ## # \u2581\u2581x",
]
TEXTS = CODE + WORDS + CJK + EMOJI + MARKS + COMPATIBILITY + CONTROL + BLANKS + SPECIAL
