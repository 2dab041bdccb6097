// Generates samples/*.jsonl: customer messages with the team that handles them, as chats and as labelled texts, and orders as prompt and
// completion. Training, validation and test sets have different sentences, so that the test measures generalization, not memorization.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRandom, type Random } from '../src/pretraining/random.ts';

const SYSTEM =
  'Which team answers this message? Reply with one word: delivery, billing, returns, account, technical or feedback.';

type Team = 'delivery' | 'billing' | 'returns' | 'account' | 'technical' | 'feedback';
type Split = 'train' | 'validation' | 'test';

/** Customer messages to each team. `[a|b]` is a choice. */
const messages: Record<Team, Record<Split, readonly string[]>> = {
  delivery: {
    train: [
      'My [parcel|package|order] has not arrived[ yet|].',
      'Where is my [parcel|package|order]? It was sent on [Monday|Friday].',
      'The courier left my [package|box] in front of the wrong house.',
      'I have been waiting for my [lamp|coat|book] for [two|three|five] weeks.',
      'When will my order be shipped?',
      'The tracking page has not changed for [four|six] days.',
      'Can you send the parcel to another address?',
      'The postman could not find our street.',
      'The box was [wet|open|damaged] when it arrived.',
      'Can I follow the shipment of my [chair|table] on a map?',
      'How many days does shipping to [France|Spain|Italy] take?',
      'The delivery was promised for [Tuesday|Saturday], but nobody came.',
      'My package went to my neighbor, and he is away.',
      'Please ship my [shoes|books] before [Sunday|Thursday].',
      'The truck drove past our house without stopping.',
      'Only one of my two parcels came in the mail.',
      'Do you also deliver in the evening?',
      'I was not at home when the courier rang the bell.',
      'The parcel is late.',
      'Is my package lost?',
      'I moved. Please bring the box to my new address.',
      'The courier did not ring the bell.',
      'Tracking says that the parcel arrived, but it is not here.',
      'On which day will the [lamp|book|coat] arrive?',
      'Somebody else got my mail.',
      'The order is still on the way after [two|three] weeks.',
      'Please leave the package at the door.',
      'Can the driver come on [Friday|Wednesday]?',
      'I am waiting for a shipment from your shop.',
      'The mail came, but there was no parcel from you.',
      'The postman left the box in the rain.',
      'When does the package with my [hat|clock|vase] come?',
    ],
    validation: [
      'The postman has not brought my [book|coat] yet.',
      'Can the courier come on [Saturday|Monday]?',
      'It says my package arrived, but I did not get a parcel.',
      'How long does shipping to my village take?',
      'Nobody rang the bell, and the box went back to the post.',
      'Please send the package to my office and not to my house.',
    ],
    test: [
      'I am still waiting for the [package|parcel] with my [hat|clock].',
      'Will the courier ring the bell or leave the box at the door?',
      'Tracking says that my parcel is in another city.',
      'Can you tell me on which day the order will arrive?',
      'The mail came today, but my package was not there.',
      'I need the shipment at a different address.',
      'The box with my [lamp|vase] was lost on the way.',
    ],
  },
  billing: {
    train: [
      'I was charged [twice|three times] for [one|the same] order.',
      'The [bill|invoice] for [March|June|May] is too high.',
      'Please send me the invoice for my order.',
      'My credit card was refused when I wanted to pay.',
      'Can I pay by [card|bank transfer|cash]?',
      'There is a fee on my bill that I do not know.',
      'You took [ten|twelve|eight] coins too much from my bank account.',
      'Why did the price of my subscription go up?',
      'The discount is missing on the receipt.',
      'I need a receipt with the name of my company for the tax.',
      'My coupon did not make the price lower.',
      'When do I have to pay the bill?',
      'The total on the invoice is wrong.',
      'I want to pay once a year and not every month.',
      'I see a payment on my card that I did not make.',
      'Is the tax already in the price?',
      'How much does the subscription cost for [two|five] people?',
      'You sent me a second bill, but I have paid already.',
      'Why was my card charged?',
      'I do not agree with the price on the invoice.',
      'The amount that you took from my bank is wrong.',
      'Can my company get the bill?',
      'I would like to pay later.',
      'I paid the invoice last week.',
      'The payment did not go through.',
      'There is no discount on my bill.',
      'What is this fee for?',
      'The price is higher than in the shop.',
      'Can I pay the subscription with another card?',
      'You charged my card for [two|three] lamps, but I bought one.',
      'I have a question about the tax on the invoice.',
      'My bank did not accept the payment.',
    ],
    validation: [
      'The payment was taken from my bank account two times.',
      'There is a wrong amount on my bill.',
      'How can I pay without a credit card?',
      'I did not get an invoice for [April|July].',
      'The price on the receipt is not the price in the shop.',
      'Why is there a fee for paying by card?',
    ],
    test: [
      'My card was charged, but the total is too high.',
      'The invoice shows a price that I never agreed to.',
      'Why do I have to pay a fee every month?',
      'Can you send the bill to my company?',
      'The coupon gave no discount when I paid.',
      'My bank says that you took the payment twice.',
      'I would like to pay the invoice next month.',
    ],
  },
  returns: {
    train: [
      'I want to send the [coat|lamp|shirt] back.',
      'The [shoes|gloves|boots] are too [small|big|tight]. Can I exchange them?',
      'How many days do I have to return a [chair|book|hat]?',
      'I got a [red|blue|green] [scarf|bag|cup], but I ordered a [white|black|brown] one.',
      'I do not like the [dress|picture|carpet] and want a refund.',
      'The [jacket|sweater] does not fit. I need another size.',
      'When do I get the refund for the [shoes|clock] that I sent back?',
      'Where do I find the label for sending things back?',
      'Please take the [sofa|table] back.',
      'Can I swap the [pen|watch] for a different color?',
      'You sent me the wrong size.',
      'I changed my mind and do not want to keep the [bike|piano].',
      'Can I bring the [plates|pans] back to the shop?',
      'I have sent it back, but the refund has not come.',
      'Is it possible to exchange a gift?',
      'I threw the box away. Can I still return the [radio|kettle]?',
      'The [shirt|hat] is the wrong color, and I want another one.',
      'Who pays when I send something back?',
      'It does not fit, and I want to exchange it.',
      'Can I get a [smaller|bigger] size?',
      'How does sending back work?',
      'I want my [shoes|coat] in a different color.',
      'Please exchange the [hat|belt] for a bigger one.',
      'I do not need the [table|mirror|bag] any more and would like to return it.',
      'I returned the [book|lamp] and wait for the refund.',
      'May I send back a [dress|toy] that was a gift?',
      'Do I have to keep the box to return the [clock|pan]?',
      'The wrong color came, so I send it back.',
      'The gloves are too long for me, please swap them.',
      'I bought two and want to give one back.',
      'Do you take back old [shoes|chairs]?',
      'Where is the refund for my [jacket|carpet]?',
    ],
    validation: [
      'The [belt|ring] is too big, so I want to exchange it.',
      'I would like to give the [blanket|pillow] back.',
      'I ordered a small one and got the wrong size.',
      'How long does it take until I get my refund?',
      'Can I return a [book|toy] that I have opened?',
      'I want a different color and will send this one back.',
    ],
    test: [
      'These [boots|gloves] do not fit, and I want to exchange them.',
      'How do I return the [mirror|coat] that I do not need?',
      'I got the wrong color and would like to swap it.',
      'Do I need the old box when I send the [kettle|radio] back?',
      'I returned the [dress|sweater], so where is my refund?',
      'Can I get a bigger size for this [shirt|jacket]?',
      'I do not want to keep this [carpet|vase], please take it back.',
    ],
  },
  account: {
    train: [
      'I forgot my password.',
      'I cannot log in[ any more| on my new phone|].',
      'How do I change my email address?',
      'Please delete my account.',
      'My account is locked after [three|five] wrong tries.',
      'The link to reset my password does not come.',
      'I want to change my user name.',
      'Somebody else used my name to sign in.',
      'I have two accounts and need only one.',
      'Can my [sister|brother|friend] use the same account?',
      'The code for signing in does not come to my phone.',
      'How can I see which data you keep in my profile?',
      'My name in the profile is wrong.',
      'I have a new phone number. Where can I change it?',
      'I cannot sign in with my email.',
      'How do I make my password safer?',
      'Please unlock my profile.',
      'I want to sign up, but my user name is taken.',
      'My password does not work.',
      'I need a new password.',
      'Why can I not sign in?',
      'Please remove all my data.',
      'What happens when I delete my account?',
      'I no longer use this email. How do I change it?',
      'The page says that my user name or my password is wrong.',
      'Somebody changed my email address.',
      'I lost my phone and do not get the code any more.',
      'How do I sign up?',
      'My profile shows an old address.',
      'I was locked out of my account.',
      'Can I have a second user in my account?',
      'I did not ask for a new password, but I got a link.',
    ],
    validation: [
      'My password is not accepted any more.',
      'I lost the phone that gets the code to sign in.',
      'How can I remove my profile?',
      'Please change the email in my account.',
      'I did not log in, but somebody else did.',
      'What is my user name?',
    ],
    test: [
      'I need a new password because I forgot the old one.',
      'Why is my profile locked?',
      'The log in page says that my user name is wrong.',
      'How can I delete all my data and my account?',
      'I no longer have the email address that I used to sign up.',
      'Somebody changed the password of my account.',
      'I did not get a code to sign in.',
    ],
  },
  technical: {
    train: [
      'The app [crashes|stops|closes] when I open it.',
      'The screen of the [phone|tablet|computer] stays black.',
      'The printer does not print any more.',
      'There is an error when I press the button.',
      'The program is very slow after the update.',
      'My [lamp|radio|clock] does not turn on.',
      'The battery is empty after an hour.',
      'I cannot install the new version on my computer.',
      'The page does not load.',
      'The [camera|microphone|keyboard] does not work with my [computer|tablet].',
      'The app does not find the internet.',
      'The machine makes a loud noise and gets hot.',
      'My [phone|tablet] freezes when I start the game.',
      'The sound is gone since the last update.',
      'How do I connect the [speaker|printer] to my phone?',
      'The search button does nothing.',
      'All my files are gone after the program crashed.',
      'The charger gets hot and stops.',
      'The app shows an error.',
      'The program freezes.',
      'My computer does not start any more.',
      'The tablet turns off after a minute.',
      'The screen flickers when I start the [app|game].',
      'The new update does not work.',
      'I cannot connect my [camera|phone] to the computer.',
      'The keyboard types the wrong letters.',
      'The map in the app does not load.',
      'The battery is full, but the [radio|phone] stays off.',
      'The website is broken on my phone.',
      'There is no sound.',
      'The button does not react.',
      'An error says that the file is broken.',
    ],
    validation: [
      'The screen freezes after a minute.',
      'An error comes up when I start the program.',
      'The new version crashes on my phone.',
      'My computer does not find the printer.',
      'The battery gets very hot.',
      'The button to save does not work.',
    ],
    test: [
      'After the update the app shows an error.',
      'The tablet does not turn on, and the battery is full.',
      'The keyboard stops when I start the program.',
      'My screen flickers and then it is black.',
      'The page with the map does not load on my computer.',
      'I cannot connect the camera to the app.',
      'The program freezes when I press a button.',
    ],
  },
  feedback: {
    train: [
      'I love your [shop|work|service].',
      'Your team was [so|very|really] [kind|friendly|helpful].',
      'I have an idea for your shop: sell more [flowers|toys|cakes].',
      'It would be nice to have more [colors|pictures|music].',
      'You are the best shop in town.',
      'The new page looks [great|beautiful|ugly].',
      'I am very [happy|pleased] with everything.',
      'Please keep up the good work.',
      'Five stars from me and my [family|mother|brother].',
      'The man in the shop was [rude|not friendly] to us.',
      'I tell all my friends how good you are.',
      'Why do you not make the letters bigger? That would be better.',
      'The service was terrible, and I am disappointed.',
      'What a wonderful [shop|team]!',
      'You could play some music in the shop.',
      'I wish you had more chairs for old people.',
      'The quality is great, and so are the people.',
      'Nobody smiled at us, and we were disappointed.',
      'I am so happy with your shop.',
      'The people in your shop are wonderful.',
      'Your service is the best.',
      'I have a wish: more toys for the children.',
      'The pictures on your page are too small, make them bigger.',
      'We had a great time in your shop.',
      'Your clerk was rude, and I am not happy.',
      'You should open on Sunday.',
      'I am disappointed in your people.',
      'Great quality, great people!',
      'My children love it.',
      'An idea: sell [bread|tea|honey] in your shop.',
      'Everything was perfect, thank you.',
      'It would be better if the music was not so loud.',
    ],
    validation: [
      'You have a wonderful team.',
      'It would be better with bigger pictures.',
      'My [mother|friend] and I love everything in your shop.',
      'I must say that I am disappointed in your service.',
      'Great work, five stars!',
      'My wish: more flowers in the shop.',
    ],
    test: [
      'What a great service, I am so happy!',
      'The woman was very friendly, and we love your shop.',
      'It would be nice if you had more toys for children.',
      'I am disappointed, because your team was rude.',
      'I have an idea: make the pictures bigger.',
      'Everything was wonderful, and I tell all my friends.',
      'Your people are the best, keep up the good work.',
    ],
  },
};

const greetings = [
  '',
  '',
  '',
  'Hello! ',
  'Hi, ',
  'Good morning. ',
  'Dear team, ',
  'Hello, I am a customer from [Paris|Rome|London]. ',
];
const endings = [
  '',
  '',
  '',
  ' Thank you.',
  ' Please help me.',
  ' What can I do?',
  ' Best wishes, [Anna|Tom|Lucy|Paul]',
  ' Please write soon.',
];

/** Items of orders, singular and plural. */
const goods: readonly (readonly [string, string])[] = [
  ['lamp', 'lamps'],
  ['chair', 'chairs'],
  ['cup', 'cups'],
  ['book', 'books'],
  ['coat', 'coats'],
  ['clock', 'clocks'],
  ['hat', 'hats'],
  ['table', 'tables'],
  ['ball', 'balls'],
  ['plate', 'plates'],
];
const counts = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'];

const random = createRandom(2027);
const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), 'samples');
mkdirSync(folder, { recursive: true });
write('support-train.jsonl', supportLines('train', 100));
write('support-validation.jsonl', supportLines('validation', 10));
write('support-test.jsonl', supportLines('test', 10));
write('orders-completion.jsonl', orderLines(80));
write('support-labels.jsonl', supportLines('train', 40).map(toLabelled));

interface Said {
  role: string;
  content: string;
}

interface SupportLine {
  messages: [system: Said, user: Said, assistant: Said];
}

/** The same number of distinct messages for each team, in random order. */
function supportLines(split: Split, perTeam: number): SupportLine[] {
  const lines = Object.entries(messages).flatMap(([team, bySplit]) =>
    distinct(perTeam, i => message(bySplit[split], i)).map(
      (content): SupportLine => ({
        messages: [
          { role: 'system', content: SYSTEM },
          { role: 'user', content },
          { role: 'assistant', content: team },
        ],
      }),
    ),
  );
  return random.shuffle(lines);
}

/** As an example of a classifier, without the system message. */
function toLabelled({ messages: [, asked, answered] }: SupportLine): object {
  return { input: asked.content, label: answered.content };
}

/** All sentences are equally frequent; greetings and endings vary. */
function message(sentences: readonly string[], i: number): string {
  const greeting = choose(random.pick(greetings), random);
  const sentence = choose(sentences[i % sentences.length]!, random);
  const follows = greeting.endsWith(', ') && !/^I\b/.test(sentence);
  return (
    greeting +
    (follows ? sentence[0]!.toLowerCase() + sentence.slice(1) : sentence) +
    choose(random.pick(endings), random)
  );
}

/** "two lamps and one chair", and the order in normalized form. */
function orderLines(count: number): object[] {
  return distinct(count, () => {
    const wanted = random.shuffle(goods).slice(0, 1 + random.below(3));
    const parts = wanted.map(([one, many]) => {
      const number = random.below(counts.length);
      return { said: `${counts[number]} ${number === 0 ? one : many}`, read: `${number + 1} ${one}` };
    });
    const said = parts.map(part => part.said).join(' and ');
    return JSON.stringify({
      prompt: `Order: ${said} ->`,
      completion: ` ${parts.map(part => part.read).join('; ')}`,
    });
  }).map(line => JSON.parse(line));
}

function choose(template: string, random: Random): string {
  return template.replace(/\[([^\]]*)\]/g, (_, options: string) => random.pick(options.split('|')));
}

function distinct(count: number, make: (i: number) => string): string[] {
  const made = new Set<string>();
  for (let i = 0; made.size < count; i++) {
    if (i > count * 100) throw new Error(`only ${made.size} different lines can be made`);
    made.add(make(i));
  }
  return [...made];
}

function write(name: string, lines: object[]): void {
  writeFileSync(join(folder, name), `${lines.map(line => JSON.stringify(line)).join('\n')}\n`);
  process.stdout.write(`samples/${name}: ${lines.length} lines\n`);
}
