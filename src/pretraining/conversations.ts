// Conversations of system, user and assistant that teach the chat format. Data only.
// They hold greetings, questions about a given text, copying, lists and everyday questions; no sorting of messages into departments.

export const systems: readonly string[] = [
  'You are a helpful assistant.',
  'You are a friendly helper.',
  'You answer questions.',
  'Answer in one sentence.',
  'You are Anneal Tiny, a small language model.',
  'Be polite and brief.',
  'You help people. Write simple English.',
  'Answer the question of the user.',
];

/** Systems after which the assistant gives the shortest answer. */
export const briefSystems: readonly string[] = [
  'Answer with one word.',
  'Give only the answer.',
  'Answer as briefly as you can.',
  'Reply with the answer and nothing else.',
  'Answer in one or two words.',
];

/** A statement for a short text and questions about it: the question, the answer in a sentence, the shortest answer. */
export interface Passage {
  readonly text: string;
  readonly asks: readonly (readonly [question: string, sentence: string, brief: string])[];
}

export const passages: readonly Passage[] = [
  {
    text: '{p:people} has a {c:colors} {t:things}.',
    asks: [
      ['what color is the {t} of {p}?', 'the {t} of {p} is {c}.', '{c}'],
      ['who has a {t}?', '{p} has a {t}.', '{p}'],
      ['what does {p} have?', '{p} has a {c} {t}.', 'a {c} {t}'],
    ],
  },
  {
    text: 'the {t:things} of {p:people} is {s:spots}.',
    asks: [
      ['where is the {t}?', 'the {t} is {s}.', '{s}'],
      ['whose {t} is {s}?', 'it is the {t} of {p}.', '{p}'],
    ],
  },
  {
    text: '{p:people} lives in the {pl:places}.',
    asks: [
      ['where does {p} live?', '{p} lives in the {pl}.', 'in the {pl}'],
      ['who lives in the {pl}?', '{p} lives in the {pl}.', '{p}'],
    ],
  },
  {
    text: '{p:people} is a {w:workers}. {p.he} {w.work}.',
    asks: [
      ['what is the job of {p}?', '{p} is a {w}.', '{w}'],
      ['who is a {w}?', '{p} is a {w}.', '{p}'],
      ['what does {p} do?', '{p} {w.work}.', '{p} {w.work}'],
    ],
  },
  {
    text: '{p:people} {act:activities.past} on {d:days}.',
    asks: [
      ['what did {p} do on {d}?', '{p} {act.past}.', '{p} {act.past}'],
      ['when was {p} {act.ing}?', 'it was on {d}.', 'on {d}'],
      ['who {act.past}?', '{p} {act.past}.', '{p}'],
    ],
  },
  {
    text: '{p:people} bought {n:numbers} {f:foods.plural} at the market.',
    asks: [
      ['how many {f.plural} did {p} buy?', '{p} bought {n} {f.plural}.', '{n}'],
      ['what did {p} buy?', '{p} bought {n} {f.plural}.', '{f.plural}'],
      ['who bought {f.plural}?', '{p} bought {f.plural}.', '{p}'],
    ],
  },
  {
    text: '{p:people} gave {q:people} a {t:things}.',
    asks: [
      ['what did {p} give {q}?', '{p} gave {q} a {t}.', 'a {t}'],
      ['who gave {q} a {t}?', '{p} gave {q} a {t}.', '{p}'],
      ['who got a {t}?', '{q} got a {t}.', '{q}'],
    ],
  },
  {
    text: '{p:people} was {f:feelings} because {f.cause}.',
    asks: [
      ['how did {p} feel?', '{p} was {f}.', '{f}'],
      ['why was {p} {f}?', '{p} was {f} because {f.cause}.', 'because {f.cause}'],
      ['who was {f}?', '{p} was {f}.', '{p}'],
    ],
  },
  {
    text: 'the {a:animals} sat {s:spots}.',
    asks: [
      ['where was the {a}?', 'the {a} was {s}.', '{s}'],
      ['which animal sat {s}?', 'the {a} sat {s}.', '{a}'],
    ],
  },
  {
    text: '{p:people} has a {a:animals}. It {a.sound} and likes {a.food}.',
    asks: [
      ['which animal does {p} have?', '{p} has a {a}.', '{a}'],
      ['what does the {a} like?', 'the {a} likes {a.food}.', '{a.food}'],
    ],
  },
  {
    text: '{p:people} likes {m:meals}, but {q:people} likes {o:meals}.',
    asks: [
      ['what does {p} like?', '{p} likes {m}.', '{m}'],
      ['what does {q} like?', '{q} likes {o}.', '{o}'],
      ['who likes {m}?', '{p} likes {m}.', '{p}'],
      ['who likes {o}?', '{q} likes {o}.', '{q}'],
    ],
  },
  {
    text: 'the {t:things} costs {n:numbers} coins and the {u:things} costs {m:numbers} coins.',
    asks: [
      ['how much is the {t}?', 'the {t} costs {n} coins.', '{n} coins'],
      ['how much is the {u}?', 'the {u} costs {m} coins.', '{m} coins'],
    ],
  },
  {
    text: 'today is {d:days} and {w:weather.today}.',
    asks: [
      ['which day is it?', 'it is {d}.', '{d}'],
      ['how is the weather?', '{w.today}.', '{w.today}'],
    ],
  },
  {
    text: '{p:people} is waiting for {q:people} {pl:places.at}.',
    asks: [
      ['where is {p} waiting?', '{p} is waiting {pl.at}.', '{pl.at}'],
      ['who is {p} waiting for?', '{p} is waiting for {q}.', '{q}'],
    ],
  },
];

/** Turns of a conversation, user first, in turn; `{x}` keeps its meaning through all of them. After `=` no capital is set. */
export const exchanges: readonly (readonly string[])[] = [
  [
    '[hello|hi|hello!|good morning|hi there][.|!|]',
    '[hello! How can I help you?|hi! What can I do for you?|good day! How can I help you?]',
  ],
  [
    'how are you?',
    'I am fine, thank you. How are you?',
    'I am {f:feelings}.',
    '[thank you for telling me.|I see.|I understand.]',
  ],
  ['[who are you?|what are you?|what is your name?]', 'I am Anneal Tiny, a small language model.'],
  [
    'my name is {p:people}.',
    'hello, {p}! [Nice to meet you.|How can I help you?]',
    '[what is my name?|do you know my name?]',
    'your name is {p}.',
  ],
  ['thank you[.|!| very much.]', 'you are welcome[.|!]'],
  ['[goodbye|bye|see you]!', 'goodbye! [Have a nice day.|See you soon.]'],
  [
    'what is a {x:tools}?',
    'a {x} is a tool. People use it to {x.use}.',
    'what is it made of?',
    'it is made of {x.material}.',
  ],
  ['what can I do with a {x:tools}?', 'you can {x.use} with a {x}.'],
  ['what do I need to {x:tools.use}?', 'you need a {x}.'],
  [
    'what do {x:animals.plural} eat?',
    '{x.plural} eat {x.food}.',
    'where do they live?',
    'they live in the {x.home}.',
  ],
  ['what can a {x:animals} do?', 'a {x} can {x.can}.'],
  [
    'tell me about {x:animals.plural}.',
    '{x.plural} are {x.kind}s. They have {x.look}. They eat {x.food}, and they can {x.can}.',
  ],
  [
    'tell me [something|] about the {x:animals}.',
    'the {x} is a {x.kind}. It lives in the {x.home} and eats {x.food}.',
  ],
  [
    'what does a {x:workers} do?',
    'a {x} {x.work}.',
    'where does a {x} work?',
    'a {x} works in the {x.place}.',
  ],
  ['what is a {x:foods}?', 'a {x} is a {x.kind}. It is {x.color} and tastes {x.taste}.'],
  ['what color is a {x:foods}?', 'a {x} is {x.color}.'],
  ['what is the opposite of {x:opposites}?', 'the opposite of {x} is {x.other}.'],
  [
    'what is the capital of {x:countries}?',
    'the capital of {x} is {x.capital}.',
    'which language do they speak there?',
    'they speak {x.language}.',
  ],
  ['what is the weather like in {x:seasons}?', 'in {x} it is {x.weather}.'],
  ['what do I need when {x:weather.today}?', 'you need {x.need}.'],
  ['name [two|some] {x:groups.plural}.', '{x.a} and {x.b}.'],
  ['name three {x:groups.plural}.', '{x.a}, {x.b} and {x.c}.', 'another one, please.', '{x.d}.'],
  ['is {x:groups.a} a {x}?', 'yes, {x.a} is a {x}.'],
  ['give me a list of {x:groups.plural}.', '=- {x.a}\n- {x.b}\n- {x.c}\n- {x.d}'],
  ['[say|repeat|write]: {a:things}', '={a}'],
  [
    '[repeat after me|say after me|copy this]: {a:people} {v:handling.past} the {c:colors} {t:things}.',
    '{a} {v.past} the {c} {t}.',
  ],
  ['repeat these words: {a:things}, {b:foods}, {c:animals}', '={a}, {b}, {c}'],
  ['which word comes first? {a:things} {b:foods} {c:animals}', '={a}', 'and which comes last?', '={c}'],
  ['[say|write] {a:things} twice.', '={a} {a}'],
  ['count to three.', '=one, two, three'],
  ['count to five.', '=one, two, three, four, five'],
  ['name the days of the week.', 'Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday'],
  ['name the seasons.', '=spring, summer, autumn, winter'],
  [
    'write a sentence with the word {x:things}.',
    '{p:people} {v:handling.past} the {c:colors} {x} {s:spots}.',
  ],
  ['write a sentence about a {x:animals}.', 'the {x} {i:intransitive.past} {m:manners} {s:spots}.'],
  ['what do you like?', 'I like {x:animals.plural} and {f:foods.plural}.'],
  [
    'what should I do {t:times}?',
    'you could {act:activities}.',
    '[what else?|and then?]',
    'you could {act2:activities}.',
  ],
  [
    'I am {f:feelings} because {f.cause}.',
    '[I understand.|I see.|Thank you for telling me.] [Do you want to {act:activities}?|You could {act:activities}.]',
  ],
  [
    'I have lost my {t:things}.',
    '[I am sorry.|Oh no.] Did you look {s:spots}?',
    'yes, it is not there.',
    'then look {s2:spots}.',
  ],
  [
    'can you help me?',
    'yes, of course. What do you need?',
    'I want to {x:tools.use}.',
    'then you need a {x}.',
  ],
  ['I like {x:animals.plural}.', 'I like {x.plural}, too. They can {x.can}.'],
  ['is a {x:tools} made of {x.material}?', 'yes, a {x} is made of {x.material}.'],
  [
    '{p:people} has {n:numbers} {f:foods.plural}. How many {f.plural} does {p} have?',
    '{p} has {n} {f.plural}.',
  ],
];

/** Questions with the shortest answer, for the systems that ask for it. */
export const briefExchanges: readonly (readonly string[])[] = [
  ['what color is a {x:foods}?', '{x.color}'],
  ['what do {x:animals.plural} eat?', '{x.food}'],
  ['what is the opposite of {x:opposites}?', '{x.other}'],
  ['the opposite of {x:opposites}?', '{x.other}'],
  ['what is the capital of {x:countries}?', '{x.capital}'],
  ['where does a {x:workers} work?', '{x.place}'],
  ['who {x:workers.work}?', 'a {x}'],
  ['what kind of thing is {x:groups.a}?', '{x}'],
  ['what is a {x:groups.b}?', '{x}'],
  ['what are {x:groups.a}, {x.b} and {x.c}?', '{x.plural}'],
  ['how does a {x:foods} taste?', '{x.taste}'],
  ['where does the {x:animals} live?', '{x.home}'],
  ['what do I need to {x:tools.use}?', 'a {x}'],
  ['write the number {x:numbers} with digits.', '{x.digit}'],
  ['write {x:numbers.digit} as a word.', '{x}'],
  ['which language do people speak in {x:countries}?', '{x.language}'],
  ['say: {x:things}', '{x}'],
];

/** How a user asks for a story; what follows is a story from stories.ts. */
export const storyRequests: readonly string[] = [
  'tell me a story.',
  'write a short story.',
  'can you tell me a story?',
  'please write a story.',
  'I want to hear a story.',
];
