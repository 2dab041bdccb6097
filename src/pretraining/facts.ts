// Statements about everyday things, alone and as short descriptions. Data only.

/** Single sentences; any of them may follow any other. */
export const statements: readonly string[] = [
  'a {x:tools} is a tool. [people|you can] use it to {x.use}.',
  'you can {x:tools.use} with a {x}.',
  '[a|this] {x:tools} is made of {x.material}.',
  'we use {x:tools.plural} to {x.use}.',
  'a {x:things} is [often|usually|mostly] made of {x.material}.',
  'the {x:animals} is a {x.kind}. It eats {x.food}.',
  '{x:animals.plural} eat {x.food}.',
  '{x:animals.plural} have {x.look}.',
  '{x:animals.plural} can {x.can}.',
  'a {x:animals} has {x.look}[.| and can {x.can}.]',
  'the {x:animals} lives in [the|a] {x.home}.',
  'a {x:workers} {x.work}.',
  '{x:workers.plural} work in [the|a] {x.place}. A {x} {x.work}.',
  'a {x:foods} is a {x.kind}. It tastes {x.taste}.',
  'most {x:foods.plural} are {x.color} and taste {x.taste}.',
  'the opposite of {x:opposites} is {x.other}.',
  'the capital of {x:countries} is {x.capital}. People in {x} speak {x.language}.',
  '{truths}.',
  'in {x:seasons} it is {x.weather}, and {x.does}.',
  '{x:seasons} is {x.weather}.',
  'when {x:weather.today}, people need {x.need}.',
  '{x:groups.a}, {x.b} and {x.c} are {x.plural}.',
  'a {x:places} is a {x.kind}.',
];

/** Short texts about one thing. */
export const descriptions: readonly string[] = [
  'the {x:tools} is a [useful|common|simple] thing. It is made of {x.material}. People use it to {x.use}. [Almost every house has one.|You can buy one in a shop.|Keep it {spots}.]',
  '{x:animals.plural} are {x.kind}s. They have {x.look} and live in the {x.home}. They eat {x.food}. [A {x} {x.sound}.|They can {x.can}.|{x.plural} can {x.can}, and a {x} {x.sound}.]',
  'the {x:animals} lives in the {x.home}. It has {x.look}. [In the morning|At night|Every day] it looks for food. It likes {x.food}. [It can {x.can}.|When it is tired, it sleeps.|It is not easy to see.]',
  'a {x:workers} {x.work}. {x.plural} work in the {x.place}. [The work is hard, but many people like it.|Many children want to be {x.plural}.|A good {x} is patient and careful.|They get up early.]',
  'the {x:foods} is a {x.kind}. It is {x.color} and tastes {x.taste}. [You can buy {x.plural} at the market.|You can eat it for breakfast.|Many children like {x.plural}.|{p:people} likes {x.plural} very much.]',
  '{x:countries} is a country. Its capital is {x.capital}. The people there speak {x.language}. [Many people visit {x} in {seasons}.|{p:people} has a friend in {x.capital}.|The food there is good.]',
  'in {x:seasons} the weather is {x.weather}. Then {x.does}. [Many people like {x} best.|{p:people} likes {x} because {p.he} can [play outside|stay inside and read|work in the garden].]',
  'this is [my|our] {x:places}. It is {sizes} and {qualities}. There is a {colors} {t:things} in it and a {u:things} of {u.material}. [I like to be here.|We come here {times}.|Nobody is here {times}.]',
  'the room is {sizes}. There is a {a:things} {s:spots} and a {colors} {b:things} near the door. [The walls are {colors}.|The window is open.|On the wall hangs a picture of a {c:animals}.] [It is quiet here.|It smells of {meals}.|Somebody has left a {d:tools} on the floor.]',
  '{p:people} is a {w:workers}. {p.he} {w.work}. {p.he} has a {r:relatives} who is a {v:workers}. {times}, {p.he} [likes to|wants to] {act:activities}.',
  '{p:people} is a {sizes} {p.man} with {c:colors} hair. [{p.he} lives {pl:places.at}.] {p.his} favorite food is {m:meals}, and {p.his} favorite color is {c2:colors}.',
  'today is {d:days}, and {w:weather.today}. [People need {w.need}.|{p:people} stays at home.|{p:people} forgot {p.his} {t:things}.]',
  'a week has seven days. They are called Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday. [On {d:days} we {act:activities}.|Most people do not work on Sunday.]',
  'a year has twelve months and four seasons: spring, summer, autumn and winter. In {s:seasons} it is {s.weather}.',
  'we have five senses. We see with our eyes, hear with our ears, smell with the nose, taste with the tongue and feel with our skin.',
  '{x:groups.a}, {x.b}, {x.c} and {x.d} are {x.plural}. {y:groups.a}, {y.b} and {y.c} are {y.plural}.',
];

/** How something is done, step by step. */
export const instructions: readonly string[] = [
  'how to make {m:meals}: First, wash the {a:foods.plural}. Then cut them with a {k:tools}. Put everything into a {p:tools} and wait [ten|twenty|thirty] minutes. Finally, add a little salt.',
  'how to make tea: First, boil some water in a kettle. Then put the tea into a cup. Pour the hot water into the cup and wait three minutes. [Add milk or sugar if you like.|Be careful, it is hot.]',
  'how to bake a cake: First, mix flour, sugar, eggs and butter in a bowl. Then put the {f:foods.plural} on top. Bake it in the oven for forty minutes. Let it get cold before you cut it.',
  'how to clean a {x:things}: Take warm water and soap. Wash the {x} with a soft cloth. Then dry it with a towel. Put it back {spots}.',
  'how to plant a tree: First, dig a hole with a shovel. Put the tree into the hole. Fill the hole with earth. Give the tree a bucket of water every day.',
  'how to write a letter: Take paper and a pen. Write the date and the name of your friend. Tell what you did. Sign your name, put the letter into an envelope and bring it to the post office.',
  'how to find a lost {x:things}: First, think where you saw it last. Look {a:spots} and {b:spots}. Ask your family. If you cannot find it, ask at the office.',
  'how to cross the street: Stop. Look left, then right, then left again. Wait until no car comes. Then walk quickly, but do not run.',
  'how to repair a {x:things}: First, look what is broken. Get a {a:tools} and some glue. Put the parts together and wait until the glue is dry. If it still does not work, ask somebody who knows.',
  'how to take care of a {x:animals}: Give it {x.food} and fresh water every day. Keep its place clean. [Play with it.|Do not shout at it.|Let it rest at night.]',
  'how to start a computer: Press the button and wait. Type your name and your password. Open the program you need. When you are done, save your work and turn it off.',
];
